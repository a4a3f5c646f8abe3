-- ARGV: count, then ids.
local ids, answers, wiped, hurried = {}, {}, {}, 0
for i = 1, tonumber(ARGV[1]) do ids[i] = ARGV[i + 1] end
fetch(ids, true)

local function free_key(r)
  local name = r.links and r.links.key
  if not name or M.unique == '' then return true end
  local id = holder(name)
  if id and id ~= r.id then return false end
  keys[name] = r.id
  return true
end

local function begin_again(r)
  leave(r)
  anew(r, now)
  r.attempt, r.crashes, r.token = 0, 0, 0
  r.more = {t = now, o = r.more.o}
  if r.links and r.links.parent then
    add(kids, '-' .. r.links.parent, r.id)
    r.links.parent = nil
    add(to_hash, 'links', r.id, cmsgpack.pack({
      r.links.key or false, r.links.keep, r.links.dedupe, r.links.failure,
    }))
  end
  known[r.id] = false
  wiped[#wiped + 1] = r.id
  enter(r, READY)
end

for i, id in ipairs(ids) do
  local r = R[id]
  if not r or r.gone then
    answers[i] = 'unknown'
  elseif r.state == SCHEDULED then
    leave(r)
    r.priority = priority_at(r.priority, now)
    enter(r, READY)
    answers[i], hurried = 'ready', hurried + 1
  elseif r.state < DONE then
    answers[i] = 'live'
  elseif free_key(r) then
    begin_again(r)
    answers[i] = 'ready'
  else
    answers[i] = 'key'
  end
end
flush()
-- They were among those that may be leased before, too, but whoever waits knew another time.
if hurried > 0 then wake(hurried) end
for _, name in ipairs({'value', 'error', 'note'}) do many('HDEL', key(name), wiped) end
return answers
