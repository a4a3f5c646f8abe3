-- ARGV: n.
let_in_when_full()
local n = tonumber(ARGV[1])
-- Answers in one look; with fewer clients than that all are looked at.
local ANSWERS = 100
local ids, ended, strays = {}, {}, {}

-- `rules.after_rescue`, and what the others say of a lease that has expired.
local function rescue(r, expired)
  local crashes = M.max_crashes and r.crashes + 1 or 0
  local why = beyond(r.attempt, crashes, now - r.born)
  touch(r)
  r.priority = priority_at(r.priority, expired)
  if r.more.c then
    r.crashes, r.token = crashes, 0
    finish(r, CANCELLED, 'cancelled', ended, true)
  elseif why ~= '' then
    r.crashes, r.token = crashes, 0
    finish(r, DEAD, why, ended, true)
  else
    leave(r)
    r.crashes, r.token, r.more.r = crashes, 0, nil
    enter(r, READY)
    ids[#ids + 1] = r.id
  end
end

local expired = call('ZRANGEBYSCORE', key('leased'), '-inf', now, 'WITHSCORES', 'LIMIT', 0, n)
local members, leased = {}, {}
for i = 1, #expired, 2 do
  members[#members + 1] = expired[i]
  leased[#leased + 1] = sub(expired[i], 8)
end
fetch(leased)
local parents = {}
for _, id in ipairs(leased) do
  local l = R[id] and R[id].links
  if l and l.parent then parents[#parents + 1] = l.parent end
end
fetch(parents)
for i, id in ipairs(leased) do
  local r = live(id, number_of(members[i]))
  if r then rescue(r, tonumber(expired[2 * i])) else strays[#strays + 1] = members[i] end
end
many('ZREM', key('leased'), strays)
flush()

-- Records whose time is over: the earliest of the three states first.
local over = {}
for _, name in ipairs({'done', 'dead', 'cancelled'}) do
  local found = call('ZRANGEBYSCORE', key(name), '-inf', now, 'WITHSCORES', 'LIMIT', 0, n)
  for i = 1, #found, 2 do over[#over + 1] = {tonumber(found[i + 1]), number_of(found[i]), name, found[i]} end
end
table.sort(over, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)
local removed, gone = math.min(n, #over), {}
for i = 1, removed do gone[i] = sub(over[i][4], 8) end
fetch(gone)
for i = 1, removed do
  local r = R[gone[i]]
  if r and r.state >= DONE then remove(r) else call('ZREM', key(over[i][3]), over[i][4]) end
end
flush()

-- Ids that are known no longer, and answers that nobody will ask for again.
many('ZREM', key('known'), call('ZRANGEBYSCORE', key('known'), '-inf', now, 'LIMIT', 0, n))
-- Of many answers some are looked at, by chance: each costs its bytes, and there are more rescues.
local some, old = call('HRANDFIELD', key('answers'), ANSWERS, 'WITHVALUES'), {}
for i = 1, #some, 2 do
  local said = sub(some[i + 1], 9, 14)
  if #said < 6 or parse('>I6', said) < now - 86400000 then old[#old + 1] = some[i] end
end
many('HDEL', key('answers'), old)

local more = false
for _, name in ipairs({'leased', 'done', 'dead', 'cancelled'}) do
  local first = call('ZRANGE', key(name), 0, 0, 'WITHSCORES')
  more = more or (first[2] and tonumber(first[2]) <= now)
end
return {ids, ended, removed, more and 1 or 0}
