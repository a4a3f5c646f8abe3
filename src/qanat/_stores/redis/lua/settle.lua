-- ARGV: client, number, count, 'D', 'R', 'Y', 'A' or '', and then of each settle
--   'D', a plain done each, 'R', a plain release, or 'Y', one that yields: its member of `leased`, which is
--   token (7) and id. A third of the arguments, and nothing is made of a number that is only compared
--   'A', one that plainly comes again: the same behind its delay (6)
--   '': id, token and spec: 'D' for a plain done, else {kind, delay, has value, reason, error, after,
--   children, also}, and behind it the value, and id, rest and links of each child and each other.
local client, number, count, alike = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] ~= ''
local answer = answered(client, number, 2)
if answer then return answer end
see_type('answers', 'hash')
let_in_when_full()

local RETRY, RELEASE, AGAIN = 2, 3, 4
local KINDS = {
  done = 1, retry = RETRY, release = RELEASE, yield = RELEASE, again = AGAIN, dead = 5, cancelled = 6,
}

-- `rules.as_settled`: whether a release that yields is a done, as another job holds the key.
local function is_yielded(r)
  local name = r.links and r.links.key
  if not name or M.unique == '' or r.more.c then return false end
  local id = holder(name)
  return id and id ~= r.id
end

-- Where a job goes: `rules.after_settle`. Returns state, reason and whether it goes to a callback.
local function after_settle(r, kind, delay, after, refused)
  local m = r.more
  if kind == 5 then return DEAD, '' end
  if kind == 6 then return CANCELLED, '' end
  if kind == 1 then
    local open = (m.o or 0) + refused
    if m.c and (open > 0 or after ~= '') then return CANCELLED, 'cancelled' end
    if open > 0 then return WAITING, '' end
    if after ~= '' then return READY, '', true end
    if m.f then return DEAD, 'children' end
    return DONE, ''
  end
  if m.c then return CANCELLED, 'cancelled' end
  if kind == RETRY then
    local why = beyond(r.attempt, 0, now - r.born + delay)
    if why ~= '' then return DEAD, why end
  end
  return delay > 0 and SCHEDULED or READY, ''
end

local function place_all(at, n, parent, placed)
  local refused = 0
  for i = 1, n do
    local why, other = place(ARGV[at], ARGV[at + 1], ARGV[at + 2], parent)
    placed[#placed + 1] = why == '' and 0 or {why, other}
    if why ~= '' then refused = refused + 1 end
    at = at + 3
  end
  return at, refused
end

local function settle(r, spec, at)
  local kind, delay, after, reason, err = KINDS[spec[1]], spec[2], spec[6], spec[4], spec[5]
  if spec[1] == 'yield' and is_yielded(r) then kind, delay = 1, 0 end
  local value, placed, ended, refused = nil, {}, {}, nil
  if spec[3] then
    value, at = ARGV[at], at + 1
  end
  at, refused = place_all(at, spec[7], r, placed)
  local state, why, callback = after_settle(r, kind, delay, after, r.more.c and refused or 0)
  local told = why
  if why == '' then why = reason end
  -- Written with the record, if that stays.
  r.value, r.error = value, err ~= '' and err or nil
  if kind == 1 then r.more.a = after ~= '' and after or nil end
  if state >= DONE then
    r.crashes = 0
    finish(r, state, why, ended)
  else
    leave(r)
    r.crashes, r.more.r = 0, why ~= '' and why or nil
    if callback then
      r.attempt, r.born, r.priority = 0, now, priority_at(r.priority, now)
      r.more.p, r.more.f = (r.more.p or 0) + 1, nil
    elseif kind == RELEASE then
      r.attempt = r.attempt - 1
    elseif kind == AGAIN then
      r.attempt, r.more.p = 0, nil
      anew(r, now + delay)
    elseif kind == RETRY then
      r.priority = priority_at(r.priority, now + delay)
    end
    enter(r, state, state == SCHEDULED and now + delay or nil)
  end
  at = place_all(at, spec[8], nil, placed)
  return at, {0, state, told, placed, ended}
end

-- Settle by the record, or tell that the lease is over.
local function settle_one(id, token, spec, place_at)
  local r = live(id, token)
  if r then
    local next_at, told = settle(r, spec, place_at)
    -- Most are done and that is all: one number says so.
    local plain = told[3] == '' and #told[4] == 0 and #told[5] == 0
    return next_at, plain and told[2] or told
  end
  if spec[3] then place_at = place_at + 1 end
  place_at = place_at + 3 * (spec[7] + spec[8])
  r = R[id]
  local repeated = r and not r.gone and r.state ~= LEASED and token > 0 and r.token == token
  return place_at, repeated and {1, r.state} or 0
end

-- All that will be looked at, in few calls.
local ids, leases, names, parents, others, quick_at = {}, {}, {}, {}, {}, {}
local at, specs = 5, {}
local is_again = ARGV[4] == 'A'
if alike then
  local first = is_again and 7 or 1
  for i = 1, count do
    local text = ARGV[i + 4]
    ids[i], leases[i] = sub(text, first + 7), sub(text, first, first + 6)
    if is_again then specs[i] = {'again', (parse('>I6', text)), false, '', '', '', 0, 0} end
  end
else
  for i = 1, count do
    ids[i] = ARGV[at]
    leases[i] = pack('>I7', tonumber(ARGV[at + 1]))
    local text = ARGV[at + 2]
    at = at + 3
    if text ~= 'D' then
      local spec = cmsgpack.unpack(text)
      specs[i] = spec
      if spec[3] then at = at + 1 end
      for _ = 1, spec[7] + spec[8] do
        others[#others + 1] = ARGV[at]
        at = at + 3
      end
    end
  end
end

-- A plain done of a job that nothing hangs on, in a queue that keeps no records: it departs at once.
-- What hangs on it would be in `links`, or behind the lane and the worker.
local texts = fields_of('HMGET', key('live'), ids)
local quick = M.keep == 0 and (not alike or ARGV[4] == 'D') and call('EXISTS', key('links')) == 0
local slow = {}
for i = 1, count do
  local text = texts[i]
  if not (quick and not specs[i] and text and #text == CORE_BYTES + byte(text, 51) * 256 + byte(text, 52)
    + byte(text, 53) * 256 + byte(text, 54)) then
    slow[#slow + 1], quick_at[i] = ids[i], false
  end
end
fetch(slow)
for _, id in ipairs(slow) do
  local l = R[id] and R[id].links
  if l and l.parent then parents[#parents + 1] = l.parent end
  if l and l.key and M.unique ~= '' then names[#names + 1] = l.key end
end
fetch(parents)
look_up(others)
look_at_holders(names)

local results, NONE = {}, string.rep('\0', 7)
local PLAIN = {({R = 'release', Y = 'yield'})[ARGV[4]] or 'done', 0, false, '', '', '', 0, 0}
local GONE = {gone = true}
local done = 0
at = 5
for i = 1, count do
  local id, lease = ids[i], leases[i]
  if quick_at[i] == nil and R[id] == nil then
    at = at + 3
    local text = texts[i]
    local is_held = sub(text, 10, 16) == lease
    if byte(text) == LEASED and is_held then
      done = done + 1
      departed[done], leases_over[done] = id, alike and ARGV[i + 4] or lease .. id
      R[id] = GONE
      results[i] = DONE
    elseif byte(text) == LEASED or lease == NONE or not is_held then
      results[i] = 0
    else
      results[i] = {1, byte(text)}
    end
  elseif alike then
    at, results[i] = settle_one(id, (parse('>I7', lease)), specs[i] or PLAIN, at)
  else
    at, results[i] = settle_one(id, tonumber(ARGV[at + 1]), specs[i] or PLAIN, at + 3)
  end
end
M.leased, M.done = M.leased - done, M.done + done
answer = cmsgpack.pack(results)
flush()
remember(client, number, 2, answer)
return {'ok', answer}
