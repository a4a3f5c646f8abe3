-- Records: what is known of a job, in up to three places.
--
--   jobs   id -> order (7) put_at (6) and what the client sent: 0 body, or 1 with lane, priority, delay
--   live   id -> CORE, lane, worker, more. There from the first lease or delay on, not while a job waits
--                in its list as it was put: most of a backlog costs one hash field and one list entry
--   links  id -> {key, keep, dedupe_for, failure, parent, family of the parent}; only if one is given
--
-- `more` is a msgpack map of what most jobs do not have: c cancel, p phase, t put_at anew, e ended_at,
-- r reason, a after, o d x n f open, done, dead, cancelled and failed children.
-- CORE: state, attempt, crashes, token, family, started_at, born_at, order, priority, lengths of lane
-- and worker. Numbers of fixed width cost a quarter of a msgpack array to take apart.
local CORE, CORE_BYTES = '>BI4I4I7I7I6I6c7dI2I2', 54
local R = {}
-- Records by id; false: there is none.
local touched = {}

local function number_of(order) return (parse('>I7', order)) end

-- Returns lane, priority, delay of a job as it was put.
local function given(blob)
  if byte(blob, 14) == 0 then return '', 0, 0 end
  local delay, priority, lane = parse('>ddI2c0', blob, 15)
  return lane, priority, delay
end

local function linked(text)
  if not text then return nil end
  local t = cmsgpack.unpack(text)
  return {key = t[1], keep = t[2], dedupe = t[3], failure = t[4], parent = t[5], family = t[6]}
end

local function decode(id, text, links)
  local state, attempt, crashes, token, family, started, born, order, priority, lane, worker, at =
    parse(CORE, text)
  local more = sub(text, at + lane + worker)
  return {
    id = id, state = state, attempt = attempt, crashes = crashes, token = token, family = family,
    started = started, born = born, order = order, priority = priority,
    lane = lane == 0 and '' or sub(text, at, at + lane - 1),
    worker = sub(text, at + lane, at + lane + worker - 1),
    more = more ~= '' and cmsgpack.unpack(more) or {}, links = linked(links),
  }
end

local function encode(r)
  return pack(CORE, r.state, r.attempt, r.crashes, r.token, r.family, r.started, r.born, r.order,
    r.priority, #r.lane, #r.worker) .. r.lane .. r.worker .. (next(r.more) and cmsgpack.pack(r.more) or '')
end

-- A job that waits in its list as it was put.
local function pristine(id, blob, links)
  local order, put = sub(blob, 1, 7), parse('>I6', blob, 8)
  local lane, priority = given(blob)
  return {
    id = id, state = READY, attempt = 0, crashes = 0, token = 0, family = 0, started = 0, born = put,
    order = order, priority = priority, lane = lane, worker = '', more = {}, links = linked(links),
    listed = true,
  }
end

-- Let R hold the records of these ids. Those without `live` are looked for only with `all`: it costs
-- reading their bodies, 50 at a time so that large ones do not fill the memory.
local function fetch(ids, all)
  local need = {}
  for _, id in ipairs(ids) do
    if R[id] == nil then
      need[#need + 1] = id
      R[id] = false
    end
  end
  if #need == 0 then return end
  local lives = fields_of('HMGET', key('live'), need)
  local links = call('EXISTS', key('links')) == 1 and fields_of('HMGET', key('links'), need) or {}
  local rest = {}
  for i, id in ipairs(need) do
    if lives[i] then
      R[id] = decode(id, lives[i], links[i])
    elseif all then
      rest[#rest + 1] = i
    end
  end
  for i = 1, #rest, 50 do
    local part = {}
    for j = i, math.min(i + 49, #rest) do part[#part + 1] = need[rest[j]] end
    for j, blob in ipairs(call('HMGET', key('jobs'), unpack(part))) do
      if blob then R[part[j]] = pristine(part[j], blob, links[rest[i + j - 1]]) end
    end
  end
end

-- Where a record stands among the sorted sets: its key and its member; nil if it lies in a list.
local function place_of(r)
  local state = r.state
  if r.listed then return nil end
  if state == READY then
    return r.crashes > 0 and 'suspects' or 'line:' .. r.lane, r.order .. r.id
  elseif state == LEASED then
    return 'leased', pack('>I7', r.token) .. r.id
  end
  return STATES[state], r.order .. r.id
end

local function score_of(r)
  if r.state == READY then return r.priority end
  if r.state == WAITING then return 0 end
  return r.due or '+inf'
end

-- Remember to write a record, and where it stood.
local function touch(r)
  if not r.touched then
    r.touched = true
    touched[#touched + 1] = r
    r.was, r.member = place_of(r)
  end
end
