-- The short way of a claim: of a queue with one lane, where all that is to be had lies as it was put; or of
-- one with none, where nothing is to be had.
local function shortly()
  local n, worker, ear = tonumber(ARGV[1]), ARGV[2], ARGV[5]
  if n < 1 or n > FEW or ARGV[6] ~= '0' then return nil end
  local meta = call('HMGET', KEYS[1], 'paused', 'max_age', 'tokens', 'given', 'ready', 'leased', 'order',
    'max_attempts', 'max_crashes', 'scheduled')
  if meta[1] or (meta[2] and meta[2] ~= '') then return nil end
  if meta[7] == 'due' then return take_overdue(meta, n, worker, ear) end
  local due = first_of('scheduled', meta[10])
  if due and due + 0 <= now then return nil end
  local ring = call('ZRANGE', key('ring'), 0, 1)
  local lane = ring[1]
  local line = 'line:' .. (lane or '')
  -- Most have none of all these, which one question tells.
  local beside = call('EXISTS', key('waiters'), key('suspects'), key('links'), key('value'), key('error'),
    key(line), to_be_made('leased', meta[6]), to_be_made('scheduled', meta[10]))
  if #ring > 1 or beside > 1 or (beside == 1 and call('EXISTS', key('waiters')) == 0) then return nil end
  local expires = first_of('leased', meta[6])
  local jobs, found, bytes = {}, 0, 0
  if lane then
    local name = key('list:' .. lane)
    local waiting = (call('HGET', key('lanes'), lane) or 0) + 0
    local entries, ids = call('LRANGE', name, 0, math.min(n, waiting) - 1), {}
    found = #entries
    for i = 1, found do ids[i] = sub(entries[i], 8) end
    local blobs, records = call('HMGET', key('jobs'), unpack(ids)), call('HMGET', key('live'), unpack(ids))
    local until_at, tokens = now + ARGV[3], (meta[3] or 0) + 0
    -- What `lease_pristine` makes.
    local score, first, started = string.format('%.0f', until_at), pack('>BI4I4', 3, 1, 0), pack('>I6', now)
    local tail, live, leases = pack('>dI2I2', 0, #lane, #worker) .. lane .. worker, {}, {}
    for i = 1, found do
      local blob, order = blobs[i], sub(entries[i], 1, 7)
      if not blob or records[i] or sub(blob, 1, 7) ~= order then return nil end
      bytes = bytes + #blob
      local token = pack('>I7', tokens + i)
      live[2 * i - 1] = ids[i]
      live[2 * i] = first .. token .. token .. started .. sub(blob, 8, 13) .. order .. tail
      -- From behind: 100 come into a sorted set that was empty in two thirds of the time.
      local at = 2 * (found - i)
      leases[at + 1], leases[at + 2] = score, token .. ids[i]
      jobs[4 * i - 3], jobs[4 * i - 2], jobs[4 * i - 1], jobs[4 * i] = ids[i], blob, tokens + i, ''
    end
    if bytes > BYTES then
      is_large = true
      return nil
    end
    local left, given = waiting - found, 0
    if left > 0 then
      given = ((meta[4] or 0) + found) % (call('HGET', key('weights'), lane) or 1)
    else
      call('ZCARD', key('names'))
    end

    -- Nothing that comes now can fail.
    -- The first write frees something, or nothing: see `let_in_when_full`.
    if left > 0 then call('LTRIM', name, found, -1) else call('UNLINK', name) end
    lane_left(lane, left)
    call('ZADD', key('leased'), unpack(leases))
    call('HSET', key('live'), unpack(live))
    local ready, leased = meta[5] - found, (meta[6] or 0) + found
    call('HSET', KEYS[1], 'tokens', tokens + found, 'ready', ready, 'leased', leased)
    if given ~= (meta[4] or 0) + 0 then call('HSET', KEYS[1], 'given', given) end
    expires = math.min(expires or until_at, until_at)
  end
  if found < n then wait_for_more(ear) elseif beside > 0 then wait_no_more(ear) end
  local next_due = math.min(due or math.huge, expires or math.huge)
  return {0, next_due < math.huge and math.max(0, next_due - now), now, jobs, {}, {}, {}}
end
