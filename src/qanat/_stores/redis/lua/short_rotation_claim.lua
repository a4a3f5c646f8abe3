-- The short way of a claim by due: of one lane, where nothing ends a job but its removal.

-- Let in few jobs of one lane whose time has come, as the long way begins with; false, and nothing is
-- written, where they are not such.
local function few_let_in()
  local members = call('ZRANGEBYSCORE', key('scheduled'), '-inf', now, 'LIMIT', 0, FEW + 1)
  if #members > FEW then return false end
  local ids, live, line, lane = {}, {}, {}, nil
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  for i, record in ipairs(call('HMGET', key('live'), unpack(ids))) do
    if not record or byte(record) ~= 1 then return false end
    local priority, size = parse('>dI2', record, 43)
    local its = sub(record, 55, 54 + size)
    if lane and lane ~= its then return false end
    lane = its
    live[2 * i - 1], live[2 * i] = ids[i], '\2' .. sub(record, 2)
    line[2 * i - 1], line[2 * i] = priority, members[i]
  end
  call('ZCARD', key('line:' .. lane))
  local meta = call('HMGET', KEYS[1], 'scheduled', 'ready', 'turns')
  local waiting = (call('HGET', key('lanes'), lane) or 0) + 0
  local turn = waiting == 0 and (meta[3] or 0) + 1
  if turn then
    call('ZCARD', key('ring'))
    call('ZCARD', key('names'))
  end

  -- Nothing that comes now can fail. The first write frees something: see `let_in_when_full`.
  call('ZREM', key('scheduled'), unpack(members))
  call('HSET', key('live'), unpack(live))
  call('ZADD', key('line:' .. lane), unpack(line))
  call('HSET', key('lanes'), lane, waiting + #ids)
  call('HSET', KEYS[1], 'scheduled', meta[1] - #ids, 'ready', (meta[2] or 0) + #ids)
  if turn then
    call('ZADD', key('ring'), turn, lane)
    call('ZADD', key('names'), 0, lane)
    call('HSET', KEYS[1], 'turns', turn)
  end
  return true
end

-- Take out the next of a line, in one call where to look and to take out are two. If `look`, which gets their
-- members and ids, tells nothing or raises, they are back in it as they were.
local function popped(name, n, look)
  local found, entries, ids = call('ZPOPMIN', name, n), {}, {}
  for i = 1, #found / 2 do
    entries[i] = found[2 * i - 1]
    ids[i] = sub(entries[i], 8)
  end
  -- A count that says more than there is makes the lane leave.
  local is_well, told = #entries == n, nil
  if is_well then is_well, told = pcall(look, entries, ids) end
  if is_well and told then return true end
  local back = {}
  for i = 1, #found, 2 do back[i], back[i + 1] = found[i + 1], found[i] end
  if #back > 0 then call('ZADD', name, unpack(back)) end
  return false
end

local function take_overdue(meta, n, worker, ear)
  -- No bound of attempts or crashes, as rotations have it; where nothing is set there are some.
  if meta[8] ~= '' or meta[9] ~= '' then return nil end
  local due, coming = first_of('scheduled', meta[10]), to_be_made('scheduled', meta[10])
  if due and due + 0 <= now then
    if not few_let_in() then return nil end
    meta = call('HMGET', KEYS[1], 'paused', 'max_age', 'tokens', 'given', 'ready', 'leased')
    due = call('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES')[2]
  end
  -- One lane, or none, and how many are ready in it. Mostly it is the one without a name.
  local lane, waiting = '', (call('HGET', key('lanes'), '') or 0) + 0
  if waiting < 1 or waiting ~= (meta[5] or 0) + 0 then
    -- Two would be four.
    local lanes = call('HRANDFIELD', key('lanes'), 2, 'WITHVALUES')
    if #lanes > 2 then return nil end
    lane, waiting = lanes[1], (lanes[2] or 0) + 0
  end
  local list = key('list:' .. (lane or ''))
  -- Most have none of all these, which one question tells.
  local made = to_be_made('leased', meta[6])
  local beside = call('EXISTS', key('suspects'), key('links'), key('note'), key('weights'), list,
    made, coming, key('value'), key('error'), key('waiters')) > 0
  if beside and call('EXISTS', key('suspects'), key('links'), key('note'), key('weights'), list, made,
    coming) > 0 then
    return nil
  end
  local expires = first_of('leased', meta[6])
  local jobs, values, errors, found = {}, {}, {}, math.min(n, waiting)
  if lane then
    local left = waiting - found
    if found < 1 then return nil end
    if left == 0 then
      call('ZCARD', key('ring'))
      call('ZCARD', key('names'))
    end
    local until_at, tokens, bytes = now + ARGV[3], (meta[3] or 0) + 0, 0
    local score, started, size_of_worker = string.format('%.0f', until_at), pack('>I6', now), pack('>I2', #worker)
    local live, leases = {}, {}
    local function look(entries, ids)
      local blobs, records = call('HMGET', key('jobs'), unpack(ids)), call('HMGET', key('live'), unpack(ids))
      for i = 1, found do
        local id, blob, record = ids[i], blobs[i], records[i]
        -- In CORE: state 1, attempt 2, crashes 6, token 10, family 17, started 24, born 30, order 36,
        -- priority 43, the lengths of lane and worker 51 and 53.
        if not blob or not record or byte(record) ~= 2 or sub(record, 36, 42) ~= sub(entries[i], 1, 7) then
          return nil
        end
        local attempt, crashes = parse('>I4I4', record, 2)
        local size, last = parse('>I2I2', record, 51)
        if crashes > 0 or sub(record, 55, 54 + size) ~= lane then return nil end
        bytes = bytes + #blob
        local token, family, more = pack('>I7', tokens + i), sub(record, 17, 23), sub(record, 55 + size + last)
        if family == '\0\0\0\0\0\0\0' then family = token end
        -- In the order in which the long way writes it anew.
        if more ~= '' then more = cmsgpack.pack(cmsgpack.unpack(more)) end
        record = pack('>BI4I4', 3, attempt + 1, 0) .. token .. family .. started .. sub(record, 30, 52)
          .. size_of_worker .. lane .. worker .. more
        live[2 * i - 1], live[2 * i] = id, record
        leases[2 * i - 1], leases[2 * i] = score, token .. id
        jobs[4 * i - 3], jobs[4 * i - 2], jobs[4 * i - 1], jobs[4 * i] = id, blob, record, ''
      end
      if beside and call('EXISTS', key('value')) == 1 then values = call('HMGET', key('value'), unpack(ids)) end
      if beside and call('EXISTS', key('error')) == 1 then errors = call('HMGET', key('error'), unpack(ids)) end
      return bytes <= BYTES
    end
    -- Nothing that comes behind it can fail.
    if not popped(key('line:' .. lane), found, look) then return nil end
    lane_left(lane, left)
    call('ZADD', key('leased'), unpack(leases))
    call('HSET', key('live'), unpack(live))
    local ready, leased = meta[5] - found, (meta[6] or 0) + found
    call('HSET', KEYS[1], 'tokens', tokens + found, 'ready', ready, 'leased', leased)
    -- Without weights a turn is over with each job.
    if (meta[4] or 0) + 0 ~= 0 then call('HSET', KEYS[1], 'given', 0) end
    expires = math.min(expires or until_at, until_at)
  end
  if found < n then
    wait_for_more(ear)
  elseif beside then
    wait_no_more(ear)
  end
  local next_due = math.min(due or math.huge, expires or math.huge)
  return {0, next_due < math.huge and math.max(0, next_due - now), now, jobs, {}, values, errors}
end
