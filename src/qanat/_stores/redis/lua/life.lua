-- What becomes of single jobs: placed, ended, counted by their parents. The same as `_core/store/rules`.

local function next_order()
  M.orders = M.orders + 1
  -- Counted from 2^52, so that falling numbers sort as texts too.
  return pack('>I7', 4503599627370496 + (M.order == 'lifo' and -M.orders or M.orders))
end

-- `rules.priority_at`, of a job that falls due then; times are shown in seconds.
local function priority_at(priority, due) return by_due and due / 1000 or priority end

-- Which bound forbids another lease; '' if none.
local function beyond(attempt, crashes, age)
  if M.max_crashes and crashes >= M.max_crashes then return 'crashes' end
  if M.max_attempts and attempt >= M.max_attempts then return 'attempts' end
  if M.max_age and age > M.max_age then return 'age' end
  return ''
end

local function live(id, token)
  local r = R[id]
  return r and not r.gone and r.state == LEASED and r.token == token and r or nil
end

local TIME_OF_PUT = pack('>I6', now)

-- Which of these ids are taken, by a record or because they stay known.
local taken = {}
local function look_up(ids)
  -- New ids have no body; a hundred at a time, for those that have one.
  for i = 1, #ids, 100 do
    local part = call('HMGET', key('jobs'), unpack(ids, i, math.min(i + 99, #ids)))
    for j = 1, #part do taken[ids[i + j - 1]] = part[j] and true or false end
  end
  if call('EXISTS', key('known')) == 0 then return end
  for i, until_at in ipairs(fields_of('ZMSCORE', key('known'), ids)) do
    if until_at and tonumber(until_at) > now then taken[ids[i]] = true end
  end
end

local NEW = 1 -- in place of true: stored in this step

local function is_taken(id)
  local r = R[id]
  if taken[id] == NEW or (r and not r.gone) then return true end
  if known[id] ~= nil then return known[id] and known[id] > now end
  -- A record that went in this step left nothing that is known, or it would have been told just now.
  return not r and taken[id]
end

-- Store a job, or tell what stands in its way. `links` as the client sent it; its last is the token of
-- the parent, and becomes the parent's family.
local function place(id, rest, links, parent)
  local l = links ~= '' and cmsgpack.unpack(links)
  if l and l[5] then
    parent = live(l[5], l[6])
    if not parent or parent.more.c then return 'parent', l[5] end
  elseif parent and parent.more.c then
    return 'parent', parent.id
  end
  if is_taken(id) then return 'id', id end
  local name = l and l[1]
  if name and M.unique ~= '' then
    local other = holder(name)
    if other then return 'key', other end
  end
  if parent then
    l = l or {false, -1, 0, 0}
    l[5], l[6] = parent.id, parent.family
    links = cmsgpack.pack(l)
    touch(parent)
    parent.more.o = (parent.more.o or 0) + 1
    add(kids, '+' .. parent.id, 0, id)
  end
  local order = next_order()
  M.put = M.put + 1
  taken[id] = NEW
  add(to_hash, 'jobs', id, order .. TIME_OF_PUT .. rest)
  if links ~= '' then add(to_hash, 'links', id, links) end
  local lane, priority, delay = '', 0, 0
  if byte(rest) == 1 then delay, priority, lane = parse('>ddI2c0', rest, 2) end
  if name and holds(delay > 0 and SCHEDULED or READY, 0) then keys[name] = id end
  -- By due none lies in a list: its priority is a time.
  priority = priority_at(priority, now + delay)
  if delay == 0 and priority == 0 then
    M.ready = M.ready + 1
    enter_lane(lane, 1)
    add(to_list, 'list:' .. lane, order .. id)
    return ''
  end
  local r = {
    id = id, state = 0, attempt = 0, crashes = 0, token = 0, family = 0, started = 0, born = now + delay,
    order = order, priority = priority, lane = lane, worker = '', more = {}, moved = true, touched = true,
  }
  touched[#touched + 1] = r
  enter(r, delay > 0 and SCHEDULED or READY, delay > 0 and now + delay or nil)
  return ''
end

-- Let a job begin again, last in its order and without its children.
local function anew(r, born)
  r.order, r.born, r.priority = next_order(), born, priority_at(r.priority, born)
  local m = r.more
  m.a, m.d, m.x, m.n, m.f = nil, nil, nil, nil, nil
end

-- Let a parent go on if it waits for nobody any more; tells how it ends, if it does.
local function go_on(p)
  if p.state ~= WAITING or p.more.o then return nil end
  if p.more.a then
    leave(p)
    p.attempt, p.born, p.priority = 0, now, priority_at(p.priority, now)
    p.more.p, p.more.f, p.more.r = (p.more.p or 0) + 1, nil, nil
    enter(p, READY)
    return nil
  end
  if p.more.f then return DEAD, 'children' end
  return DONE, ''
end

local COUNTED = {[DONE] = 'd', [DEAD] = 'x', [CANCELLED] = 'n'}

-- Tell a parent how its child ended; returns the parent if it ends by that, and how.
local function count_child(child, state)
  local l = child.links
  if not l or not l.parent then return nil end
  fetch({l.parent})
  local p = R[l.parent]
  if not p or p.gone or p.family ~= l.family then return nil end
  touch(p)
  local m = p.more
  m.o = m.o and m.o > 1 and m.o - 1 or nil
  local name = COUNTED[state]
  m[name] = (m[name] or 0) + 1
  if state == DEAD and l.failure == 1 then m.f = (m.f or 0) + 1 end
  local ends, why = go_on(p)
  if ends then return p, ends, why end
end

-- Let a job end, and then those whose last child it was. `ended` takes who ended; with `told` also the
-- job itself.
local function finish(r, state, reason, ended, told)
  while r do
    if told then ended[#ended + 1] = {r.id, state, reason} end
    leave(r)
    r.more.r, r.more.e = reason ~= '' and reason or nil, now
    local kept = M.keep
    if state == DEAD then
      kept = M.keep_dead
    elseif r.links and r.links.keep >= 0 then
      kept = r.links.keep
    end
    enter(r, state, kept and now + kept)
    if kept == 0 then remove(r) end
    if r.links and r.links.dedupe > 0 then known[r.id] = now + r.links.dedupe end
    r, state, reason = count_child(r, state)
    told = true
  end
end
