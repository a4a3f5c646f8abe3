-- The short way of a settle by due: jobs that all come again later.
local function come_again(client, number, count)
  local meta = call('HMGET', KEYS[1], 'order', 'orders', 'scheduled', 'leased')
  if meta[1] ~= 'due' then return nil end
  if is_told(client, number) then return nil end
  local beside = call('EXISTS', key('links'), key('waiters')) > 0
  if beside and call('EXISTS', key('links')) == 1 then return nil end
  local ids, leases, delays, reasons, seen, results = {}, {}, {}, {}, {}, {}
  local values, errors = {}, {}
  if ARGV[4] == 'A' then
    for i = 1, count do
      local text = ARGV[i + 4]
      ids[i], leases[i], delays[i], reasons[i] = sub(text, 14), sub(text, 7), parse('>I6', text), ''
    end
  else
    local at = 5
    for i = 1, count do
      local id, text = ARGV[at], ARGV[at + 2]
      -- {kind, delay, has value, reason, error, after, children, also}; a plain done has no spec.
      local spec = text ~= 'D' and cmsgpack.unpack(text)
      if not spec or spec[1] ~= 'again' or spec[6] ~= '' or spec[7] + spec[8] > 0 then return nil end
      ids[i], delays[i], reasons[i] = id, spec[2], spec[4]
      leases[i], at = pack('>I7', tonumber(ARGV[at + 1])) .. id, at + 3
      if spec[3] then
        values[#values + 1], values[#values + 2] = id, ARGV[at]
        at = at + 1
      end
      if spec[5] ~= '' then errors[#errors + 1], errors[#errors + 2] = id, spec[5] end
    end
  end
  for i = 1, count do
    local id = ids[i]
    if seen[id] or delays[i] <= 0 then return nil end
    seen[id], results[i] = true, 1
  end
  local records, orders = call('HMGET', key('live'), unpack(ids)), (meta[2] or 0) + 0
  local live, coming = {}, {}
  for i = 1, count do
    local id, record, delay, reason = ids[i], records[i], delays[i], reasons[i]
    -- State, token, and the lengths of lane and worker, as CORE has them.
    if not record or byte(record) ~= 3 or sub(record, 10, 16) ~= sub(leases[i], 1, 7) then return nil end
    local lane, worker = parse('>I2I2', record, 51)
    local last = 54 + lane + worker
    local more = reason ~= '' and {r = reason} or nil
    if #record > last then
      more = cmsgpack.unpack(sub(record, last + 1))
      if more.c then return nil end
      more.r = reason ~= '' and reason or nil
      more.p, more.a, more.d, more.x, more.n, more.f = nil, nil, nil, nil, nil, nil
      more = next(more) and more
    end
    local born, order = now + delay, pack('>I7', 4503599627370496 + orders + i)
    live[2 * i - 1] = id
    live[2 * i] = pack('>BI4I4', 1, 0, 0) .. sub(record, 10, 29) .. pack('>I6', born) .. order
      .. pack('>d', born / 1000) .. sub(record, 51, last) .. (more and cmsgpack.pack(more) or '')
    coming[2 * i - 1], coming[2 * i] = born, order .. id
  end
  if #values > 0 then call('HLEN', key('value')) end
  if #errors > 0 then call('HLEN', key('error')) end

  -- A full server refuses the first of what comes now, and then the long way lets itself in. Of the others
  -- one can fail: what was added is taken out.
  call('ZADD', key('scheduled'), unpack(coming))
  if type(try('ZREM', key('leased'), unpack(leases))) == 'table' then
    for i = 2, 2 * count, 2 do call('ZREM', key('scheduled'), coming[i]) end
    return nil
  end
  call('HSET', key('live'), unpack(live))
  if #values > 0 then call('HSET', key('value'), unpack(values)) end
  if #errors > 0 then call('HSET', key('error'), unpack(errors)) end
  local scheduled, leased = (meta[3] or 0) + count, meta[4] - count
  call('HSET', KEYS[1], 'orders', orders + count, 'scheduled', scheduled, 'leased', leased)
  if beside then wake(count) end
  local answer = cmsgpack.pack(results)
  remember(client, number, 2, answer)
  return {'ok', answer}
end
