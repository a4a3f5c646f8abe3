-- The short way of a delete: jobs of one lane that lie as they were put, or are not there, and have no links.
-- Their entries stay in the list, as the long way leaves them.
local function shortly()
  local count = tonumber(ARGV[1])
  if count > FEW or call('EXISTS', key('links')) == 1 then return nil end
  local meta = call('HMGET', KEYS[1], 'given', 'ready', 'removed')
  local ids, gone, answers, seen, lane = {}, {}, {}, {}, nil
  for i = 1, count do
    local id = ARGV[i + 1]
    if seen[id] then return nil end
    ids[i], seen[id] = id, true
  end
  for _, record in ipairs(call('HMGET', key('live'), unpack(ids))) do
    if record then return nil end
  end
  for begin = 1, count, 50 do
    for i, blob in ipairs(call('HMGET', key('jobs'), unpack(ids, begin, math.min(begin + 49, count)))) do
      local at = begin + i - 1
      answers[at] = blob and 'deleted' or 'unknown'
      if blob then
        local _, name = nil, ''
        if byte(blob, 14) ~= 0 then _, _, name = parse('>ddI2c0', blob, 15) end
        if lane and name ~= lane then return nil end
        lane, gone[#gone + 1] = name, ids[at]
      end
    end
  end
  if not lane then return nil end
  local left = (call('HGET', key('lanes'), lane) or 0) - #gone
  -- Its turn would be over.
  if left < 0 or (left == 0 and (meta[1] or '0') ~= '0') then return nil end
  local known = call('ZCARD', key('known')) > 0
  if left == 0 then
    call('ZCARD', key('ring'))
    call('ZCARD', key('names'))
    call('LLEN', key('list:' .. lane))
  end

  -- Nothing that comes now can fail.
  call('DEL', key('none')) -- see `let_in_when_full`
  call('HDEL', key('jobs'), unpack(gone))
  if left == 0 then call('UNLINK', key('list:' .. lane)) end
  lane_left(lane, left)
  if known then call('ZREM', key('known'), unpack(gone)) end
  call('HSET', KEYS[1], 'ready', meta[2] - #gone, 'removed', (meta[3] or 0) + #gone)
  return answers
end
