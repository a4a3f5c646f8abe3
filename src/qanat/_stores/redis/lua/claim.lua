-- ARGV: n, worker, lease, how many suspects, ear ('' without), count, lanes to skip. `life.lua` holds
-- what one lease needs.
local n, worker, lease, suspects = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local ear, skip, skipped = ARGV[5], {}, tonumber(ARGV[6])
for i = 7, 6 + skipped do skip[ARGV[i]] = true end
if M.paused then
  wait_for_more(ear)
  return {1, false, now, {}, {}, {}, {}}
end
let_in_when_full()

local LOOKS, SUSPECTS = 1000, 100
local given_count, jobs, ended, looks, bytes, full, again = 0, {}, {}, 0, 0, false, false
local until_at, notes = now + lease, call('EXISTS', key('note')) == 1

-- Scheduled jobs whose time has come, in one step of its own: the lanes below are read after it. Only the
-- state changes, the first byte: no key is taken or let go, and the member is the same in both sets. So
-- no record is taken apart, which made a thousand due jobs five times as slow.
local function let_due_in()
  local members = call('ZRANGEBYSCORE', key('scheduled'), '-inf', now, 'LIMIT', 0, LOOKS)
  if #members == 0 then return end
  local ids, lines, is_ready = {}, {}, string.char(READY)
  for i, member in ipairs(members) do ids[i] = sub(member, 8) end
  local texts, changed = fields_of('HMGET', key('live'), ids), {}
  for i, id in ipairs(ids) do
    local text = texts[i]
    -- An entry without its job leaves too, or it would be looked at for ever.
    if text and byte(text) == SCHEDULED then
      local priority, size = parse('>dI2', text, 43)
      local lane = size == 0 and '' or sub(text, CORE_BYTES + 1, CORE_BYTES + size)
      changed[#changed + 1] = id
      changed[#changed + 1] = is_ready .. sub(text, 2)
      add(lines, lane, priority, members[i])
      enter_lane(lane, 1)
    end
  end
  M.scheduled, M.ready = M.scheduled - #changed / 2, M.ready + #changed / 2
  see_type('scheduled', 'zset')
  see_type('live', 'hash')
  for lane in pairs(lines) do see_type('line:' .. lane, 'zset') end
  many('ZREM', key('scheduled'), members)
  if #changed > 0 then to_hash.live = changed end
  flush()
  for lane, line in pairs(lines) do many('ZADD', key('line:' .. lane), line) end
end

local function give(id, blob, text, links)
  given_count = given_count + 1
  local at = 4 * given_count
  jobs[at - 3], jobs[at - 2], jobs[at - 1], jobs[at] = id, blob, text, links or ''
end

-- Lease a record; false if it is dead instead.
local function lease_record(r, blob, links)
  local why = beyond(r.attempt, r.crashes, now - r.born)
  if why ~= '' then
    looks = looks + 1
    -- Its parent may become ready in a lane that was read already.
    again = r.links and r.links.parent and true
    finish(r, DEAD, why, ended, true)
    return false
  end
  leave(r)
  M.tokens = M.tokens + 1
  r.attempt, r.token, r.worker, r.started = r.attempt + 1, M.tokens, worker, now
  if r.family == 0 then r.family = r.token end
  if notes then r.note = '' end
  enter(r, LEASED, until_at)
  give(r.id, blob, encode(r), links)
  return true
end

local function take_suspects()
  local members = call('ZRANGE', key('suspects'), 0, SUSPECTS - 1)
  if #members == 0 then return end
  local ids = {}
  for i, member in ipairs(members) do ids[i] = sub(member, 8) end
  fetch(ids)
  local left = math.min(suspects, n)
  for _, id in ipairs(ids) do
    local r = R[id]
    if r and r.state == READY and not skip[r.lane] then
      local links = r.links and call('HGET', key('links'), id)
      local blob = call('HGET', key('jobs'), id)
      if blob and lease_record(r, blob, links) then
        left, bytes = left - 1, bytes + #blob
        full = bytes > BYTES
        if left < 1 or full then break end
      end
    end
  end
  flush()
end

-- Lanes, as far as they were read: entries of the list of jobs as they were put, and of the sorted set of
-- all others; the smaller (priority, order) is next.
local lanes = {}
local blobs, lives, linkss = {}, {}, {}

local function read_entries(lane, b, want)
  if not b.list_read then
    local list = call('LRANGE', key('list:' .. lane), #b.list, #b.list + want - 1)
    b.list_read = #list < want
    for _, entry in ipairs(list) do b.list[#b.list + 1] = entry end
  end
  if not b.line_read then
    local at = #b.line / 2
    local line = call('ZRANGE', key('line:' .. lane), at, at + want - 1, 'WITHSCORES')
    b.line_read = #line / 2 < want
    for _, entry in ipairs(line) do b.line[#b.line + 1] = entry end
  end
end

-- Read records behind entries; those over the bound of bytes stay unread.
local function read_records(ids)
  local has_links = call('EXISTS', key('links')) == 1
  local has_live = call('EXISTS', key('live')) == 1
  for i = 1, #ids, 100 do
    local last = math.min(i + 99, #ids)
    if bytes > BYTES then return end
    local part = call('HMGET', key('jobs'), unpack(ids, i, last))
    local live_part = has_live and call('HMGET', key('live'), unpack(ids, i, last))
    local link_part = has_links and call('HMGET', key('links'), unpack(ids, i, last))
    for j = 1, #part do
      local id = ids[i + j - 1]
      blobs[id] = part[j]
      if part[j] then bytes = bytes + #part[j] end
      if link_part then linkss[id] = link_part[j] end
      if live_part and live_part[j] then
        lives[id] = true
        if R[id] == nil then R[id] = decode(id, live_part[j], link_part and link_part[j]) end
      end
    end
  end
end

local function read_lane(lane, want, ids)
  local b = lanes[lane]
  if not b then
    b = {list = {}, line = {}, l = 1, z = 1}
    lanes[lane] = b
  end
  local list, line = #b.list, #b.line
  read_entries(lane, b, want)
  for i = list + 1, #b.list do ids[#ids + 1] = sub(b.list[i], 8) end
  for i = line + 1, #b.line, 2 do ids[#ids + 1] = sub(b.line[i], 8) end
end

-- The next entry of a lane, and whether it lies in the list.
local function next_entry(lane, want)
  local b = lanes[lane]
  -- Neither head is known before both are: the smaller one may lie in what was not read.
  if not b or (b.l > #b.list and not b.list_read) or (b.z > #b.line and not b.line_read) then
    local ids = {}
    read_lane(lane, want, ids)
    read_records(ids)
    b = lanes[lane]
  end
  local one, other = b.list[b.l], b.line[b.z]
  if one and other then
    local priority = tonumber(b.line[b.z + 1])
    if priority < 0 or (priority == 0 and number_of(other) < number_of(one)) then return other, false end
    return one, true
  end
  return one or other, one ~= nil
end

local new_live, new_leases, tails, firsts = {}, {}, {}, 0
-- A score as a text is copied; a number would be written out for each job.
local due_text = string.format('%.0f', until_at)
local FIRST, NOW = pack('>BI4I4', LEASED, 1, 0), pack('>I6', now)

-- The first lease of a job that lay as it was put: without a table, and CORE joined from parts that are
-- texts already, a third of the cost of packing it from numbers. The client knows all but the token, which
-- it gets as a number.
local function lease_pristine(id, blob, lane, links)
  local tail = tails[lane]
  if not tail then
    tail = pack('>dI2I2', 0, #lane, #worker) .. lane .. worker
    tails[lane] = tail
  end
  firsts, given_count = firsts + 1, given_count + 1
  M.tokens = M.tokens + 1
  local token, at = pack('>I7', M.tokens), 2 * firsts
  new_live[at - 1] = id
  new_live[at] = FIRST .. token .. token .. NOW .. sub(blob, 8, 13) .. sub(blob, 1, 7) .. tail
  new_leases[at - 1], new_leases[at] = due_text, token .. id
  at = 4 * given_count
  jobs[at - 3], jobs[at - 2], jobs[at - 1], jobs[at] = id, blob, M.tokens, links or ''
end

-- Take one job of a lane. 'none': it holds nothing; 'over': enough bytes; else whether a turn was used.
local function take_from(lane, want)
  local entry, listed = next_entry(lane, want)
  if not entry then return 'none' end
  local id = sub(entry, 8)
  if blobs[id] == nil then return 'over' end
  local b = lanes[lane]
  if listed then b.l = b.l + 1 else b.z = b.z + 2 end
  local blob, r = blobs[id], R[id]
  if not listed then
    if not r or r.state ~= READY or not blob then return 'passed' end
    return lease_record(r, blob, linkss[id]) and 'leased' or 'dead'
  end
  -- A job that left otherwise leaves its entry behind.
  if not blob or lives[id] or sub(blob, 1, 7) ~= sub(entry, 1, 7) then return 'passed' end
  local plain = not linkss[id] or M.unique ~= 'pending'
  if plain and not (M.max_age and now - parse('>I6', blob, 8) > M.max_age) then
    lease_pristine(id, blob, lane, linkss[id])
    local left = ready_in(lane)
    if left > 1 then counts[lane], stirred[lane] = left - 1, true else leave_lane(lane) end
    return 'leased'
  end
  r = pristine(id, blob, linkss[id])
  R[id] = r
  return lease_record(r, blob, linkss[id]) and 'leased' or 'dead'
end

-- Write what was taken: entries leave their lists, and the rest is as for all.
local function write_turns()
  M.ready, M.leased = M.ready - firsts, M.leased + firsts
  firsts = 0
  if #new_live > 0 and not to_hash.live then
    to_hash.live = new_live
  elseif #new_live > 0 then
    to_hash.live = to_hash.live or {}
    for i = 1, #new_live do to_hash.live[#to_hash.live + 1] = new_live[i] end
  end
  see_type('leased', 'zset')
  see_type('live', 'hash')
  -- The only key of all that `flush` writes and nothing above has read.
  if next(ring) then see_type('names', 'zset') end
  for lane, b in pairs(lanes) do
    if b.l > 1 then
      see_type('list:' .. lane, 'list')
      call('LTRIM', key('list:' .. lane), b.l - 1, -1)
    end
  end
  many('ZADD', key('leased'), new_leases)
  flush()
  lanes, blobs, lives, linkss, new_live, new_leases = {}, {}, {}, {}, {}, {}
  R = {}
end

local function taken_weight(lane) return (call('HGET', key('weights'), lane) or 1) + 0 end

-- One lane alone, and nothing in it but jobs as they were put: no turns, and no look at each head.
local function take_plain(lane)
  local name, at, taken = key('list:' .. lane), 0, 0
  local room = math.min(n - given_count, ready_in(lane))
  -- What has a record beside its body is leased, if these are as many: then it lies in no list, and nobody
  -- has to look for records of the others.
  local all_pristine = call('HLEN', key('live')) == M.leased
  while taken < room and looks < LOOKS and bytes <= BYTES do
    local entries, ids = call('LRANGE', name, at, at + math.min(room - taken, 100) - 1), {}
    local found = #entries
    if found == 0 then break end
    for i = 1, found do ids[i] = sub(entries[i], 8) end
    local part = call('HMGET', key('jobs'), unpack(ids))
    local live_part = all_pristine and {} or call('HMGET', key('live'), unpack(ids))
    for i = 1, found do
      local blob = part[i]
      if blob and not live_part[i] and sub(blob, 1, 7) == sub(entries[i], 1, 7) then
        taken, bytes = taken + 1, bytes + #blob
        lease_pristine(ids[i], blob, lane)
      else
        looks = looks + 1
      end
    end
    at = at + found
  end
  full = bytes > BYTES
  lanes[lane] = {l = at + 1}
  local left, weight = counts[lane] - taken, (call('HGET', key('weights'), lane) or 1) + 0
  counts[lane], stirred[lane] = left, true
  M.given = left > 0 and (M.given + taken) % weight or 0
  if left == 0 then ring[lane] = false end
end

local function is_plain(lane)
  return not skip[lane] and not M.max_age and ready_in(lane) > 0
    and call('EXISTS', key('links'), key('line:' .. lane)) == 0
end

local function take_turns()
  local size = call('ZCARD', key('ring'))
  if size == 1 then
    local lane = call('ZRANGE', key('ring'), 0, 0)[1]
    if is_plain(lane) then return take_plain(lane) end
  end
  local chunk, at, offset, tail, t = {}, 1, 0, {}, 1
  local weights, weighted, passed = {}, call('EXISTS', key('weights')) == 1, 0
  local function need() return n - given_count end
  local function head()
    if at > #chunk and offset < size then
      chunk, at = call('ZRANGE', key('ring'), offset, offset + need() + skipped), 1
      offset = offset + #chunk
      if size > 1 then
        local ids, share = {}, math.ceil(need() / size)
        for _, lane in ipairs(chunk) do
          if not skip[lane] and not lanes[lane] then read_lane(lane, share, ids) end
        end
        read_records(ids)
      end
    end
    if at <= #chunk then return chunk[at] end
    return tail[t]
  end
  local function drop()
    if at <= #chunk then at = at + 1 else t = t + 1 end
  end
  local function turn(lane)
    M.given = 0
    -- The only lane there is comes after itself.
    if at == #chunk and offset == size and t > #tail then return end
    if at > #chunk and t == #tail then return end
    drop()
    tail[#tail + 1] = lane
    M.turns = M.turns + 1
    ring[lane] = M.turns
  end
  local left = size
  while need() > 0 and looks < LOOKS and passed < left and not again do
    local lane = head()
    if skip[lane] then
      turn(lane)
      passed = passed + 1
    else
      passed = 0
      local given_before = M.given
      M.given = 0
      local what = take_from(lane, size == 1 and need() or math.ceil(need() / left) + 1)
      if what == 'over' then
        M.given, full = given_before, true
        return
      end
      if what == 'passed' then looks = looks + 1 end
      if what == 'none' or counts[lane] == 0 then
        if what == 'none' then
          -- The count says more than there is: `check` will tell. The lane leaves, so that nothing spins.
          ring[lane], counts[lane], stirred[lane] = false, 0, true
        end
        drop()
        left = left - 1
      elseif what == 'leased' then
        M.given = given_before + 1
        if weighted and not weights[lane] then weights[lane] = taken_weight(lane) end
        if M.given >= (weights[lane] or 1) then turn(lane) end
      else
        M.given = given_before
      end
    end
  end
end

-- Read at the end, for what is given by then.
see_type('value', 'hash')
see_type('error', 'hash')
let_due_in()
if n > 0 and suspects > 0 then take_suspects() end
while not full do
  again = false
  take_turns()
  write_turns()
  if not again or looks >= LOOKS or given_count >= n then break end
end

if n > 0 and given_count < n then wait_for_more(ear) else wait_no_more(ear) end
local next_due = false
for _, name in ipairs({'scheduled', 'leased'}) do
  local first = call('ZRANGE', key(name), 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if not next_due or wait < next_due then next_due = wait end
  end
end
if looks >= LOOKS or full then next_due = 0 end
-- What is kept of earlier attempts, of all jobs that are given; nothing if nothing is kept of any.
local function kept(name)
  if call('EXISTS', key(name)) == 0 then return {} end
  local ids = {}
  for i = 1, given_count do ids[i] = jobs[4 * i - 3] end
  return fields_of('HMGET', key(name), ids)
end
local values, errors = kept('value'), kept('error')
return {0, next_due, now, jobs, ended, values, errors}
