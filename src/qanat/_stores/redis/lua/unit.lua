-- One step under way: what is to be written, kept in tables until `flush`.
local counts, stirred, ring, keys, held_by, known, kids = {}, {}, {}, {}, {}, {}, {}
-- counts: lane -> ready jobs; stirred: lanes whose count changed; ring: lane -> its turn, false: out of
-- the ring; keys: key -> who holds it from now on, false: nobody; held_by: who held it; known: id ->
-- until when, false: not any more; kids: '+' or '-' and a parent -> children that come or go
local to_hash, to_list, departed, leases_over = {}, {}, {}, {}
-- departed, leases_over: ids and leases of jobs that are done and leave nothing behind; they never
-- become tables, which would cost more than all the rest

local function add(lists, name, one, two)
  local list = lists[name]
  if not list then
    list = {}
    lists[name] = list
  end
  list[#list + 1] = one
  if two then list[#list + 1] = two end
end

-- Lanes and their ring.

local function ready_in(lane)
  local n = counts[lane]
  if not n then
    n = (call('HGET', key('lanes'), lane) or 0) + 0
    counts[lane] = n
  end
  return n
end

-- The lane whose turn it is. Those whose place changed in this step are behind all others, or gone.
local function head_of_ring()
  local changed = 0
  for _ in pairs(ring) do changed = changed + 1 end
  for _, lane in ipairs(call('ZRANGE', key('ring'), 0, changed)) do
    if ring[lane] == nil then return lane end
  end
  local head, first
  for lane, turn in pairs(ring) do
    if turn and (not first or turn < first) then head, first = lane, turn end
  end
  return head
end

local function enter_lane(lane, jobs)
  local n = ready_in(lane)
  if n == 0 then
    M.turns = M.turns + 1
    ring[lane] = M.turns
  end
  counts[lane], stirred[lane] = n + jobs, true
end

local function leave_lane(lane)
  local n = ready_in(lane) - 1
  if n == 0 then
    if M.given > 0 and head_of_ring() == lane then M.given = 0 end
    ring[lane] = false
  end
  counts[lane], stirred[lane] = n, true
end

-- Keys.

local function holds(state, phase)
  local unique = M.unique
  if unique == '' then return false end
  if unique == 'forever' then return true end
  if unique == 'active' then return state <= WAITING end
  return phase == 0 and state <= READY
end

local function holder(name)
  local id = keys[name]
  if id == nil then id = held_by[name] end
  if id == nil then
    id = call('HGET', key('keys'), name)
    held_by[name] = id
  end
  return id
end

local function look_at_holders(names)
  for i, id in ipairs(fields_of('HMGET', key('keys'), names)) do held_by[names[i]] = id end
end

-- Arrows: leave the old state, change the record, enter the new one.

local function leave(r)
  touch(r)
  r.moved = true
  r.held = r.links and r.links.key and holds(r.state, r.more.p or 0)
  M[STATES[r.state]] = M[STATES[r.state]] - 1
  if r.state == READY and r.crashes == 0 then leave_lane(r.lane) end
  r.listed = nil
end

local function enter(r, state, due)
  r.state, r.due = state, due
  M[STATES[state]] = M[STATES[state]] + 1
  if state == READY and r.crashes == 0 then enter_lane(r.lane, 1) end
  local name = r.links and r.links.key
  if name then
    local holding = holds(state, r.more.p or 0)
    if holding and not r.held then
      if not holder(name) then keys[name] = r.id end
    elseif r.held and not holding and holder(name) == r.id then
      keys[name] = false
    end
  end
end

-- Let a record go; what was counted stays counted.
local function remove(r)
  touch(r)
  r.gone = true
  if r.links and r.links.parent then add(kids, '-' .. r.links.parent, r.id) end
end

-- Writing.

local function see_type(name, kind)
  local found = call('TYPE', key(name)).ok
  if found ~= kind and found ~= 'none' then
    error('WRONGTYPE ' .. key(name) .. ' is a ' .. found .. ', expected a ' .. kind, 0)
  end
end

local function writes_of_records()
  local gone, leaving, coming = departed, {}, {}
  if #leases_over > 0 then leaving.leased = leases_over end
  departed, leases_over = {}, {}
  for _, r in ipairs(touched) do
    if r.was and (r.moved or r.gone) then add(leaving, r.was, r.member) end
    if r.gone then
      gone[#gone + 1] = r.id
      if R[r.id] == r then R[r.id] = false end
    else
      add(to_hash, 'live', r.id, encode(r))
      if r.value then add(to_hash, 'value', r.id, r.value) end
      if r.error then add(to_hash, 'error', r.id, r.error) end
      if r.note then add(to_hash, 'note', r.id, r.note) end
      if r.moved then
        local name, member = place_of(r)
        if name then add(coming, name, score_of(r), member) end
      end
    end
    r.touched, r.moved, r.value, r.error, r.note = nil, nil, nil, nil, nil
  end
  touched = {}
  return gone, leaving, coming
end

-- How many more jobs there are now than before that may be leased, at once or later.
local function coming_in()
  return M.scheduled + M.ready - held[SCHEDULED_AT] - held[READY_AT]
end

local function changed_meta()
  local changed = {}
  for i = 10, #FIELDS do
    if M[FIELDS[i]] ~= held[i] then
      held[i] = M[FIELDS[i]]
      changed[#changed + 1] = FIELDS[i]
      changed[#changed + 1] = held[i]
    end
  end
  return changed
end

local function split(values, name_of_key, removed)
  local set, cleared = {}, {}
  for name, value in pairs(values) do
    if value then
      set[#set + 1] = name_of_key and value or name
      set[#set + 1] = name_of_key and name or value
    else
      cleared[#cleared + 1] = name
    end
  end
  return set, cleared
end

local function flush_ring()
  local lanes, empty = {}, {}
  for lane in pairs(stirred) do
    if counts[lane] > 0 then
      lanes[#lanes + 1] = lane
      lanes[#lanes + 1] = counts[lane]
    else
      empty[#empty + 1] = lane
      -- What is left in it are entries of jobs that are not there any more.
      call('UNLINK', key('list:' .. lane))
    end
  end
  local turned, left = split(ring, true)
  local names = {}
  for i = 2, #turned, 2 do
    names[#names + 1] = 0
    names[#names + 1] = turned[i]
  end
  many('ZREM', key('ring'), left)
  many('ZREM', key('names'), left)
  many('HDEL', key('lanes'), empty)
  many('HSET', key('lanes'), lanes)
  many('ZADD', key('ring'), turned)
  many('ZADD', key('names'), names)
  stirred, ring = {}, {}
end

-- Write all that was decided. Nothing can fail here once every key has the type that it should have.
local function flush()
  local gone, leaving, coming = writes_of_records()
  for name in pairs(leaving) do see_type(name, 'zset') end
  for name in pairs(coming) do see_type(name, 'zset') end
  for name in pairs(to_list) do see_type(name, 'list') end
  for name in pairs(to_hash) do see_type(name, 'hash') end
  for name in pairs(kids) do see_type('kids:' .. sub(name, 2), 'zset') end
  -- A look at a key costs 2 us, so only at those that are to be written.
  if next(ring) then
    see_type('ring', 'zset')
    see_type('names', 'zset')
  end
  if next(stirred) then see_type('lanes', 'hash') end
  if next(known) then see_type('known', 'zset') end
  if next(keys) then see_type('keys', 'hash') end
  if #gone > 0 then
    for _, name in ipairs({'jobs', 'live', 'links', 'value', 'error', 'note'}) do see_type(name, 'hash') end
  end
  for name, members in pairs(leaving) do many('ZREM', key(name), members) end
  if #gone > 0 then
    many('HDEL', key('jobs'), gone)
    many('HDEL', key('live'), gone)
    for _, name in ipairs({'links', 'value', 'error', 'note'}) do
      -- Four in five queues have none of them; asking once is cheaper than a thousand arguments.
      if call('EXISTS', key(name)) == 1 then many('HDEL', key(name), gone) end
    end
  end
  flush_ring()
  for name, list in pairs(kids) do
    if byte(name) == 45 then many('ZREM', key('kids:' .. sub(name, 2)), list) end
  end
  local set, cleared = split(keys)
  many('HDEL', key('keys'), cleared)
  many('HSET', key('keys'), set)
  set, cleared = split(known, true)
  many('ZREM', key('known'), cleared)
  many('ZADD', key('known'), set)
  for name, list in pairs(to_hash) do many('HSET', key(name), list) end
  for name, list in pairs(coming) do many('ZADD', key(name), list) end
  local push = M.order == 'lifo' and 'LPUSH' or 'RPUSH'
  for name, list in pairs(to_list) do many(push, key(name), list) end
  for name, list in pairs(kids) do
    if byte(name) == 43 then many('ZADD', key('kids:' .. sub(name, 2)), list) end
  end
  local more = coming_in()
  many('HSET', KEYS[1], changed_meta())
  if more > 0 then wake(more) end
  to_hash, to_list, kids, known, keys, held_by = {}, {}, {}, {}, {}, {}
end
