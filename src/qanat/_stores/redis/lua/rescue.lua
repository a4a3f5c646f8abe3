-- ARGV: n.
let_in_when_full()
-- What is written or read behind the first write.
for _, name in ipairs({'known', 'done', 'dead', 'cancelled'}) do see_type(name, 'zset') end
see_type('answers', 'hash')
local n = tonumber(ARGV[1])
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

-- Ids that are known no longer.
many('ZREM', key('known'), call('ZRANGEBYSCORE', key('known'), '-inf', now, 'LIMIT', 0, n))

-- Answers that nobody will ask for again. They are looked at by chance, and again while a quarter of them were
-- old, as Redis looks for keys that have expired: so the old are few, and no index says when each was given.
local LOOK, ROUNDS, CHUNK, SIZE, DAY = 100, 10, 10, 65536, 86400000
local function forget_answers()
  local bytes = 0
  for _ = 1, ROUNDS do
    local clients, old = call('HRANDFIELD', key('answers'), LOOK), {}
    for at = 1, #clients, CHUNK do
      local said = call('HMGET', key('answers'), unpack(clients, at, math.min(at + CHUNK - 1, #clients)))
      for i, answer in ipairs(said) do
        bytes = bytes + #answer
        local time = sub(answer, 9, 14) -- see `answers.lua`
        if #time < 6 or parse('>I6', time) < now - DAY then old[#old + 1] = clients[at + i - 1] end
      end
      -- An answer may name a thousand ids.
      if bytes > SIZE then break end
    end
    many('HDEL', key('answers'), old)
    if #old == 0 or 4 * #old < #clients or bytes > SIZE then return end
  end
end
forget_answers()

local more = false
for _, name in ipairs({'leased', 'done', 'dead', 'cancelled'}) do
  local first = call('ZRANGE', key(name), 0, 0, 'WITHSCORES')
  more = more or (first[2] and tonumber(first[2]) <= now)
end
return {ids, ended, removed, more and 1 or 0}
