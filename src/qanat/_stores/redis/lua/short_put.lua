-- The short way of a put: plain jobs, in a queue where nothing but their ids can stand in their way.
local function shortly()
  local client, number, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
  if client == '' or count > FEW then return nil end
  local meta = call('HMGET', KEYS[1], 'set', 'order', 'orders', 'put', 'ready', 'turns', 'scheduled')
  if not meta[1] then return nil end
  if meta[2] == 'due' then return place_by_due(client, number, count, meta) end
  if is_told(client, number) then return nil end
  local orders, step = (meta[3] or 0) + 0, meta[2] == 'lifo' and -1 or 1
  local time, ids, seen, stored, listed = pack('>I6', now), {}, {}, {}, {}
  for i = 1, count do
    local id, rest = ARGV[3 * i + 1], ARGV[3 * i + 2]
    if ARGV[3 * i + 3] ~= '' or byte(rest) ~= 0 or seen[id] then return nil end
    local order = pack('>I7', 4503599627370496 + step * (orders + i))
    ids[i], seen[id] = id, true
    stored[2 * i - 1], stored[2 * i], listed[i] = id, order .. time .. rest, order .. id
  end
  for _, found in ipairs(call('HMGET', key('jobs'), unpack(ids))) do
    if found then return nil end
  end
  local beside = call('EXISTS', key('known'), key('waiters')) > 0
  for i = 1, beside and count or 0 do
    if call('ZSCORE', key('known'), ids[i]) then return nil end
  end
  local waiting = (call('HGET', key('lanes'), '') or 0) + 0
  local turn = waiting == 0 and (meta[6] or 0) + 1
  if turn then
    call('ZCARD', key('ring'))
    call('ZCARD', key('names'))
  end

  -- Of what comes now only the first can fail.
  call(step < 0 and 'LPUSH' or 'RPUSH', key('list:'), unpack(listed))
  call('HSET', key('jobs'), unpack(stored))
  call('HSET', key('lanes'), '', waiting + count)
  local put, ready = (meta[4] or 0) + count, (meta[5] or 0) + count
  if turn then
    call('ZADD', key('ring'), turn, '')
    call('ZADD', key('names'), 0, '')
    call('HSET', KEYS[1], 'orders', orders + count, 'put', put, 'ready', ready, 'turns', turn)
  else
    call('HSET', KEYS[1], 'orders', orders + count, 'put', put, 'ready', ready)
  end
  if beside then wake(count) end
  remember(client, number, 1, '\144')
  return {'ok', '\144'} -- an empty list: nothing was refused
end
