-- The short way of a release: jobs of one lane go back to where they came from, and nothing but their state
-- is told of them.
local function shortly()
  local client, number, count, kind = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
  if client == '' or count > FEW or (kind ~= 'R' and kind ~= 'Y') then return nil end
  local meta = call('HMGET', KEYS[1], 'ready', 'leased', 'turns', 'unique')
  if is_told(client, number) then return nil end
  local members, ids, seen, results = {}, {}, {}, {}
  for i = 1, count do
    local member = ARGV[i + 4]
    local id = sub(member, 8)
    if seen[id] then return nil end
    members[i], ids[i], seen[id], results[i] = member, id, true, 2
  end
  local live, line, tail, lane = {}, {}, nil, nil
  local first, nothing, zero = pack('>I4', 1), pack('>BI4I4', 2, 0, 0), pack('>d', 0)
  for i, record in ipairs(call('HMGET', key('live'), unpack(ids))) do
    if not record or byte(record) ~= 3 or sub(record, 10, 16) ~= sub(members[i], 1, 7) then return nil end
    local ending = sub(record, 51)
    if ending ~= tail then
      -- The lengths of lane and worker, as CORE has them: nothing may be behind these.
      local lanes, worker = parse('>I2I2', record, 51)
      local name = sub(record, 55, 54 + lanes)
      if #record ~= 54 + lanes + worker or (lane and name ~= lane) then return nil end
      tail, lane = ending, name
    end
    local attempt, at = sub(record, 2, 5), 2 * i
    local start = nothing
    if attempt ~= first then start = pack('>BI4I4', 2, parse('>I4', attempt) - 1, 0) end
    live[at - 1], live[at] = ids[i], start .. sub(record, 10)
    local priority = sub(record, 43, 50)
    -- From behind: see `short_claim.lua`.
    line[2 * count - at + 1] = priority == zero and '0' or parse('>d', priority)
    line[2 * count - at + 2] = sub(record, 36, 42) .. ids[i]
  end

  -- Keys: one that is let go of with the lease is taken again, if nobody else has it.
  local unique, keys = meta[4] or '', {}
  if unique ~= '' and call('EXISTS', key('links')) == 1 then
    local names, owners = {}, {}
    for i, text in ipairs(call('HMGET', key('links'), unpack(ids))) do
      local name = text and key_in(text)
      if name then names[#names + 1], owners[#owners + 1] = name, ids[i] end
    end
    local holders = #names > 0 and call('HMGET', key('keys'), unpack(names)) or {}
    local taken = {}
    for i, name in ipairs(names) do
      local holder = taken[name] or holders[i]
      if holder and kind == 'Y' and holder ~= owners[i] then return nil end
      if not holder and unique == 'pending' then
        taken[name] = owners[i]
        keys[#keys + 1], keys[#keys + 2] = name, owners[i]
      end
    end
  end
  local waiting = (call('HGET', key('lanes'), lane) or 0) + 0
  local turn = waiting == 0 and (meta[3] or 0) + 1
  if turn then
    call('ZCARD', key('ring'))
    call('ZCARD', key('names'))
  end
  call('ZCARD', key('line:' .. lane))

  call('DEL', key('none')) -- see `let_in_when_full`
  -- Of what comes now only the first can fail.
  call('ZREM', key('leased'), unpack(members))
  call('HSET', key('live'), unpack(live))
  call('ZADD', key('line:' .. lane), unpack(line))
  call('HSET', key('lanes'), lane, waiting + count)
  if #keys > 0 then call('HSET', key('keys'), unpack(keys)) end
  local ready, leased = (meta[1] or 0) + count, meta[2] - count
  if turn then
    call('ZADD', key('ring'), turn, lane)
    call('ZADD', key('names'), 0, lane)
    call('HSET', KEYS[1], 'ready', ready, 'leased', leased, 'turns', turn)
  else
    call('HSET', KEYS[1], 'ready', ready, 'leased', leased)
  end
  wake(count)
  local answer = cmsgpack.pack(results)
  remember(client, number, 2, answer)
  return {'ok', answer}
end
