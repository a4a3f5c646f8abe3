-- The short way of a get: few jobs, of which nothing is known but their records.
local function shortly()
  local count, ids, out = tonumber(ARGV[1]), {}, {}
  if count < 1 or count > FEW or call('EXISTS', key('links'), key('value'), key('error'), key('note')) > 0 then
    return nil
  end
  for i = 1, count do ids[i] = ARGV[i + 1] end
  local blobs, records = call('HMGET', key('jobs'), unpack(ids)), call('HMGET', key('live'), unpack(ids))
  -- Where states have a time: by their numbers, as `STATES` has them.
  local timed = {'scheduled', false, 'leased', false, 'done', 'dead', 'cancelled'}
  for i = 1, count do
    local record, due = records[i], false
    local name = record and timed[byte(record)]
    if name then
      -- Its token or its order, as CORE has them.
      local first = name == 'leased' and sub(record, 10, 16) or sub(record, 36, 42)
      due = call('ZSCORE', key(name), first .. ids[i])
    end
    out[i] = blobs[i] and {ids[i], blobs[i], record, false, due, false, false, false} or false
  end
  return out
end
