-- The short way of a put by due: jobs with nothing but a delay, which are all there is to place them by.
local function place_by_due(client, number, count, meta)
  if is_told(client, number) then return nil end
  local beside = call('EXISTS', key('known'), key('waiters')) > 0
  if beside and call('EXISTS', key('known')) == 1 then return nil end
  local ids, delays, seen, refused = {}, {}, {}, {}
  for i = 1, count do
    local rest, delay, priority, lane = ARGV[3 * i + 2], 0, 0, 0
    ids[i] = ARGV[3 * i + 1]
    if byte(rest) == 1 then delay, priority, lane = parse('>ddI2', rest, 2) end
    if ARGV[3 * i + 3] ~= '' or priority ~= 0 or lane > 0 then return nil end
    delays[i] = delay
  end
  local orders, time, stored, live = (meta[3] or 0) + 0, pack('>I6', now), {}, {}
  local coming, line, later = {}, {}, 0
  for i, found in ipairs(call('HMGET', key('jobs'), unpack(ids))) do
    local id, due = ids[i], now + delays[i]
    if found or seen[id] then
      refused[#refused + 1] = {i - 1, 'id', id}
    else
      seen[id] = true
      local n = #stored
      local order, priority = pack('>I7', 4503599627370496 + orders + n / 2 + 1), due / 1000
      stored[n + 1], stored[n + 2] = id, order .. time .. ARGV[3 * i + 2]
      local at = delays[i] > 0 and coming or line
      at[#at + 1], at[#at + 2] = at == coming and due or priority, order .. id
      live[n + 1] = id
      live[n + 2] = pack('>BI4I4I7I7I6I6', at == coming and 1 or 2, 0, 0, 0, 0, 0, due) .. order
        .. pack('>dI2I2', priority, 0, 0)
    end
  end
  local placed, soon = #stored / 2, #line / 2
  local waiting, turn = 0, false
  if soon > 0 then
    call('ZCARD', key('line:'))
    waiting = (call('HGET', key('lanes'), '') or 0) + 0
    turn = waiting == 0 and (meta[6] or 0) + 1
    if turn then
      call('ZCARD', key('ring'))
      call('ZCARD', key('names'))
    end
  end

  -- Of what comes now the first two can fail: what was added is taken out.
  if placed > soon then call('ZADD', key('scheduled'), unpack(coming)) end
  if placed > 0 then
    if type(try('HSET', key('live'), unpack(live))) == 'table' then
      for i = 2, #coming, 2 do call('ZREM', key('scheduled'), coming[i]) end
      return nil
    end
    call('HSET', key('jobs'), unpack(stored))
    local put, scheduled = (meta[4] or 0) + placed, (meta[7] or 0) + placed - soon
    if placed > soon then
      call('HSET', KEYS[1], 'orders', orders + placed, 'put', put, 'scheduled', scheduled)
    else
      call('HSET', KEYS[1], 'orders', orders + placed, 'put', put)
    end
  end
  if soon > 0 then
    call('ZADD', key('line:'), unpack(line))
    call('HSET', key('lanes'), '', waiting + soon)
    call('HSET', KEYS[1], 'ready', (meta[5] or 0) + soon)
    if turn then
      call('ZADD', key('ring'), turn, '')
      call('ZADD', key('names'), 0, '')
      call('HSET', KEYS[1], 'turns', turn)
    end
  end
  if beside and placed > 0 then wake(placed) end
  local answer = cmsgpack.pack(refused)
  remember(client, number, 1, answer)
  return {'ok', answer}
end
