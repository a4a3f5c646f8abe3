-- ARGV: number of the state (0: any), lane ('0', or '1' and its name), parent (the same), limit, and the
-- cursor: phase ('' at the start), lane, score, number; then '', or count and bodies. Each order below stays
-- as it is for a job that fits all the while, so none is met twice: by when it is due and its order number, by
-- lane and its place there, by token, by id.
local state, limit = tonumber(ARGV[1]), tonumber(ARGV[4])
local in_lane, of_parent = byte(ARGV[2]) == 49 and sub(ARGV[2], 2), byte(ARGV[3]) == 49 and sub(ARGV[3], 2)
local phase, past_lane, past_score, past = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local wanted = ARGV[9] ~= '' and {}
for i = 10, wanted and 9 + ARGV[9] or 0 do wanted[ARGV[i]] = true end
-- A look at a body alone, in a list, costs a fifth of one at a record.
local LOOKS, RECORD = wanted and 5000 or 1000, wanted and 5 or 1
-- Bytes of bodies looked at in one step: large ones would hold the server up for seconds.
local SEEN = 4194304
local ids, cursor, looks, seen = {}, false, 0, 0

-- Whether a job as it was put has one of the bodies.
local function is_wanted(blob)
  if not blob then return false end
  seen = seen + #blob
  if byte(blob, 14) == 0 then return wanted[sub(blob, 15)] end
  local _, _, lane, at = parse('>ddI2', blob, 15)
  local handler, metadata, begin = parse('>I2I4', blob, at + lane)
  return wanted[sub(blob, begin + handler + metadata)]
end

local function room() return #ids < limit and looks < LOOKS and seen < SEEN end

local function look(id, keep)
  looks = looks + RECORD
  if keep and wanted then keep = is_wanted(call('HGET', key('jobs'), id)) end
  if keep then ids[#ids + 1] = id end
end

local function fits(r)
  return r and (state == 0 or r.state == state) and (not in_lane or r.lane == in_lane)
end

-- The rank behind a (score, number): by halves among those of one score, as texts are not compared.
local function rank_behind(name, score, number)
  if score == '' then return 0 end
  local low = call('ZCOUNT', key(name), '-inf', '(' .. score)
  local high = call('ZCOUNT', key(name), '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if number_of(call('ZRANGE', key(name), middle, middle)[1]) <= number then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Walk a sorted set from where the page before ended.
local function walk(name, score, number, at_phase, lane)
  local rank = rank_behind(name, score, number)
  while room() do
    local part = call('ZRANGE', key(name), rank, rank + 99, 'WITHSCORES')
    if #part == 0 then return true end
    local found = {}
    for i = 1, #part, 2 do found[#found + 1] = sub(part[i], 8) end
    fetch(found)
    for i = 1, #part, 2 do
      if not room() then return false end
      local id = sub(part[i], 8)
      look(id, fits(R[id]))
      cursor = {at_phase, lane, part[i + 1], number_of(part[i])}
    end
    rank = rank + #found
  end
  return false
end

local function rank_in_list(name, number)
  local low, high = 0, call('LLEN', key(name))
  while low < high do
    local middle = math.floor((low + high) / 2)
    if number_of(call('LINDEX', key(name), middle)) <= number then low = middle + 1 else high = middle end
  end
  return low
end

-- Look at what lies behind entries of a list; tells whether there is still room.
local function look_at_entries(lane, part, found)
  fetch(found, true)
  for i, entry in ipairs(part) do
    if not room() then return false end
    local r = R[found[i]]
    look(found[i], r and r.listed and r.order == sub(entry, 1, 7))
    cursor = {'list', lane, '', number_of(entry)}
  end
  return true
end

-- The same with bodies to look for, and without making records.
local function look_at_bodies(lane, part, found)
  local lives, blobs, last = call('HMGET', key('live'), unpack(found)), {}, #part
  for i, entry in ipairs(part) do
    -- 50 at a time, as `fetch` has it.
    local at = (i - 1) % 50 + 1
    if at == 1 then blobs = call('HMGET', key('jobs'), unpack(found, i, math.min(i + 49, #part))) end
    local blob = blobs[at]
    looks = looks + 1
    if blob and not lives[i] and sub(blob, 1, 7) == sub(entry, 1, 7) and is_wanted(blob) then
      ids[#ids + 1] = found[i]
    end
    if not room() then
      last = i
      break
    end
  end
  cursor = {'list', lane, '', number_of(part[last])}
  return room()
end

local function walk_list(lane, number)
  local name = 'list:' .. lane
  local rank = number and rank_in_list(name, number) or 0
  while room() do
    local part = call('LRANGE', key(name), rank, rank + 99)
    if #part == 0 then return true end
    local found = {}
    for i, entry in ipairs(part) do found[i] = sub(entry, 8) end
    if not (wanted and look_at_bodies or look_at_entries)(lane, part, found) then return false end
    rank = rank + #found
  end
  return false
end

local function walk_ready()
  if phase == '' or phase == 'suspects' then
    if not walk('suspects', past_score, past, 'suspects', '') then return end
    phase, past_score = '', ''
  end
  local lane = in_lane or past_lane
  if phase == '' then
    lane = in_lane or call('ZRANGEBYLEX', key('names'), '-', '+', 'LIMIT', 0, 1)[1]
  end
  while lane do
    if phase ~= 'list' then
      if not walk('line:' .. lane, phase == 'line' and past_score or '', past, 'line', lane) then return end
    end
    if not walk_list(lane, phase == 'list' and past or nil) then return end
    if in_lane then break end
    phase = ''
    lane = call('ZRANGEBYLEX', key('names'), '(' .. lane, '+', 'LIMIT', 0, 1)[1]
  end
  cursor = false
end

-- By token, which is no order of an index: all are looked at, and no more than a page of them is sorted.
local function walk_leased()
  -- Without a lane to look for, nearly all of them fit.
  local wanted = in_lane and LOOKS or limit
  local first, by_token, behind, bound = {}, {}, 0, math.huge
  for _, member in ipairs(call('ZRANGE', key('leased'), 0, -1)) do
    local token = number_of(member)
    if phase == '' or token > past then
      behind = behind + 1
      if token < bound then
        first[#first + 1], by_token[token] = token, member
        if #first == 2 * wanted then
          table.sort(first)
          for i = #first, wanted + 1, -1 do first[i] = nil end
          bound = first[wanted]
        end
      end
    end
  end
  table.sort(first)
  local some = {}
  for i = 1, math.min(#first, wanted) do some[i] = sub(by_token[first[i]], 8) end
  fetch(some)
  for i, id in ipairs(some) do
    if not room() then return end
    look(id, fits(R[id]))
    cursor = i < behind and {'leased', '', '', first[i]} or false
  end
end

local function walk_children()
  local from = phase == '' and '-' or '(' .. past_lane
  while room() do
    local part = call('ZRANGEBYLEX', key('kids:' .. of_parent), from, '+', 'LIMIT', 0, 100)
    if #part == 0 then
      cursor = false
      return
    end
    fetch(part, true)
    for _, id in ipairs(part) do
      if not room() then return end
      look(id, fits(R[id]))
      cursor, from = {'kids', id, '', 0}, '(' .. id
    end
  end
end

if of_parent then
  walk_children()
elseif state == READY then
  walk_ready()
elseif state == LEASED then
  walk_leased()
elseif walk(STATES[state], past_score, past, 'at', '') then
  cursor = false
end
return {describe(ids), cursor}
