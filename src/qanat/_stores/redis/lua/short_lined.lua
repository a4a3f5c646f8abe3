-- The short way of a claim of one lane where some jobs are no more as they were put, but released, say, or
-- due; or where some have keys, or other links. It comes behind that of jobs that lie as they were put.
local function shortly()
  local n, worker, ear = tonumber(ARGV[1]), ARGV[2], ARGV[5]
  if n < 1 or n > FEW or ARGV[6] ~= '0' or is_large then return nil end
  local meta = call('HMGET', KEYS[1], 'paused', 'max_age', 'max_attempts', 'tokens', 'given', 'ready',
    'leased', 'unique')
  if meta[1] or (meta[2] and meta[2] ~= '') then return nil end
  local most = tonumber(meta[3] or 20) or math.huge
  local due = call('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES')[2]
  if due and due + 0 <= now then return nil end
  local ring = call('ZRANGE', key('ring'), 0, 1)
  if #ring ~= 1 or call('EXISTS', key('suspects'), key('value'), key('error'), key('note')) > 0 then
    return nil
  end
  local expires = call('ZRANGE', key('leased'), 0, 0, 'WITHSCORES')[2]
  local lane = ring[1]
  local waiting = (call('HGET', key('lanes'), lane) or 0) + 0

  -- The smallest (priority, order) are next, of the two places where jobs lie.
  local line = call('ZRANGE', key('line:' .. lane), 0, n - 1, 'WITHSCORES')
  local lined, list = #line / 2, {}
  local function precedes(at, other)
    local priority = line[at + 1] + 0
    return priority < 0 or (priority == 0 and parse('>I7', line[at]) < other)
  end
  if lined > waiting then return nil end
  local head = waiting > lined and call('LINDEX', key('list:' .. lane), 0)
  if head and not (lined == n and precedes(2 * n - 1, (parse('>I7', head)))) then
    list = call('LRANGE', key('list:' .. lane), 0, math.min(n, lined < n and waiting - lined or n) - 1)
  end
  local ids, entries, found, l, z = {}, {}, 0, 1, 1
  local next_order = list[1] and parse('>I7', list[1])
  while found < n do
    local entry
    if line[z] and not (next_order and not precedes(z, next_order)) then
      entry, z = line[z], z + 2
    elseif next_order then
      entry, l = list[l], l + 1
      next_order = list[l] and parse('>I7', list[l])
    else
      break
    end
    found = found + 1
    ids[found], entries[found] = sub(entry, 8), entry
  end
  if found == 0 then return nil end

  local blobs, records = call('HMGET', key('jobs'), unpack(ids)), call('HMGET', key('live'), unpack(ids))
  local links = call('EXISTS', key('links')) == 1 and call('HMGET', key('links'), unpack(ids)) or {}
  local until_at, tokens, started = now + ARGV[3], (meta[4] or 0) + 0, pack('>I6', now)
  local score, none, nothing = string.format('%.0f', until_at), string.rep('\0', 4), string.rep('\0', 7)
  local first, never = pack('>BI4I4', 3, 1, 0), pack('>BI4I4', 2, 0, 0)
  local tail, known = pack('>I2I2', #lane, #worker) .. lane .. worker, nil
  local live, leases, gone, jobs, bytes = {}, {}, {}, {}, 0
  for i = 1, found do
    local id, blob, record, order = ids[i], blobs[i], records[i], sub(entries[i], 1, 7)
    if not blob or sub(blob, 1, 7) ~= order and not record then return nil end
    local token, given = pack('>I7', tokens + i), tokens + i
    local at = 2 * i
    if not record then
      -- What `lease_pristine` makes.
      record = first .. token .. token .. started .. sub(blob, 8, 13) .. order .. none .. none .. tail
    else
      local ending = sub(record, 51)
      if ending ~= known then
        -- The lengths of lane and worker, as CORE has them: nothing may be behind these.
        local size, other = parse('>I2I2', record, 51)
        if #record ~= 54 + size + other or sub(record, 55, 54 + size) ~= lane then return nil end
        known = ending
      end
      local start, family = first, sub(record, 17, 23)
      if sub(record, 36, 42) ~= order then return nil end
      if sub(record, 1, 9) ~= never then
        local state, attempt, crashes = parse('>BI4I4', record)
        if state ~= 2 or crashes ~= 0 or attempt >= most then return nil end
        start = pack('>BI4I4', 3, attempt + 1, 0)
      end
      if family == nothing then family = token end
      record = start .. token .. family .. started .. sub(record, 30, 50) .. tail
      gone[#gone + 1], given = entries[i], record
    end
    live[at - 1], live[at] = id, record
    -- From behind: see `short_claim.lua`.
    leases[2 * found - at + 1], leases[2 * found - at + 2] = score, token .. id
    bytes = bytes + #blob
    jobs[4 * i - 3], jobs[4 * i - 2], jobs[4 * i - 1], jobs[4 * i] = id, blob, given, links[i] or ''
  end
  if bytes > BYTES or #gone ~= (z - 1) / 2 then return nil end

  -- Keys that are let go of with the first lease.
  local freed = {}
  if meta[8] == 'pending' and #links > 0 then
    local names, owners = {}, {}
    for i = 1, found do
      local name = links[i] and key_in(links[i])
      if name then names[#names + 1], owners[#owners + 1] = name, ids[i] end
    end
    for i, holder in ipairs(#names > 0 and call('HMGET', key('keys'), unpack(names)) or {}) do
      if holder == owners[i] then freed[#freed + 1] = names[i] end
    end
  end
  local left, given = waiting - found, 0
  if left > 0 then
    local weight = (call('HGET', key('weights'), lane) or 1) + 0
    given = (meta[5] or 0) + found
    -- One that was made lighter meanwhile has its turn behind it with the first.
    if given - found >= weight then given = found - 1 end
    given = given % weight
  else
    call('ZCARD', key('names'))
  end

  -- Nothing that comes now can fail.
  call('DEL', key('none')) -- see `let_in_when_full`
  if #gone > 0 then call('ZREM', key('line:' .. lane), unpack(gone)) end
  if left == 0 then
    call('UNLINK', key('list:' .. lane))
  elseif l > 1 then
    call('LTRIM', key('list:' .. lane), l - 1, -1)
  end
  lane_left(lane, left)
  if #freed > 0 then call('HDEL', key('keys'), unpack(freed)) end
  call('ZADD', key('leased'), unpack(leases))
  call('HSET', key('live'), unpack(live))
  local ready, leased = meta[6] - found, (meta[7] or 0) + found
  call('HSET', KEYS[1], 'tokens', tokens + found, 'ready', ready, 'leased', leased)
  if given ~= (meta[5] or 0) + 0 then call('HSET', KEYS[1], 'given', given) end
  if found < n then wait_for_more(ear) else wait_no_more(ear) end
  expires = math.min(expires or until_at, until_at)
  return {0, math.max(0, math.min(due or math.huge, expires) - now), now, jobs, {}, {}, {}}
end
