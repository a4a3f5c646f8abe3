-- The short way of a settle: jobs that are plainly done, in a queue where they leave nothing behind.
local function shortly()
  local client, number, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
  if client == '' or count > FEW then return nil end
  if ARGV[4] == '' or ARGV[4] == 'A' then return come_again(client, number, count) end
  if ARGV[4] ~= 'D' then return nil end
  local meta = call('HMGET', KEYS[1], 'keep', 'leased', 'done')
  if (meta[1] or '0') ~= '0' then return nil end
  if is_told(client, number) then return nil end
  if call('EXISTS', key('links'), key('value'), key('error'), key('note')) > 0 then return nil end
  local members, ids, seen, results = {}, {}, {}, {}
  for i = 1, count do
    local member = ARGV[i + 4]
    local id = sub(member, 8)
    if seen[id] then return nil end
    members[i], ids[i], seen[id], results[i] = member, id, true, 5
  end
  for i, record in ipairs(call('HMGET', key('live'), unpack(ids))) do
    -- State, token and the lengths of lane and worker, as CORE has them: nothing may be behind these.
    if not record or byte(record) ~= 3 or sub(record, 10, 16) ~= sub(members[i], 1, 7) then return nil end
    local lane, worker = parse('>I2I2', record, 51)
    if #record ~= 54 + lane + worker then return nil end
  end
  call('HLEN', key('jobs'))

  call('DEL', key('none')) -- see `let_in_when_full`
  -- Of what comes now only the first can fail.
  call('ZREM', key('leased'), unpack(members))
  call('HDEL', key('jobs'), unpack(ids))
  call('HDEL', key('live'), unpack(ids))
  call('HSET', KEYS[1], 'leased', meta[2] - count, 'done', (meta[3] or 0) + count)
  local answer = cmsgpack.pack(results)
  remember(client, number, 2, answer)
  return {'ok', answer}
end
