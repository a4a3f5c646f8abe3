-- What contradicts itself, in words, each with what mends it. Everything is looked at in one step, so a
-- busy queue gives no false alarm; it takes some seconds for a million jobs, and the server waits.
local words, mending = {}, {}
local MOST_WORDS = 1000

local function say(text, mend)
  if #words < MOST_WORDS then words[#words + 1] = text end
  if mend then mending[#mending + 1] = mend end
end

-- A hundred pairs at a time, as bodies may be large: their names, and their values.
local function each_part(name, visit)
  local cursor = '0'
  repeat
    local part, ids, values = call('HSCAN', key(name), cursor, 'COUNT', 100), {}, {}
    cursor = part[1]
    for i = 1, #part[2], 2 do
      ids[#ids + 1] = part[2][i]
      values[#values + 1] = part[2][i + 1]
    end
    if #ids > 0 then visit(ids, values) end
  until cursor == '0'
end

local function each_pair(name, visit)
  each_part(name, function(ids, values)
    for i, id in ipairs(ids) do visit(id, values[i]) end
  end)
end

local function each_member(name, visit)
  local at = 0
  repeat
    local part = call('ZRANGE', key(name), at, at + 999)
    for _, member in ipairs(part) do visit(member) end
    at = at + 1000
  until #part == 0
end

local function record(id)
  fetch({id}, true)
  local r = R[id] or nil
  R[id] = nil
  return r
end

local function shown(text) return "'" .. text .. "'" end

-- true_counts: state -> records; standing: sorted set -> how many stand in it as they should; listed: lane
-- -> jobs as they were put; lined: lane -> others that are ready there; opens: parent and family -> open
-- children
local true_counts, standing, listed, lined, opens = {0, 0, 0, 0, 0, 0, 0}, {}, {}, {}, {}

local function look_at_key(r)
  local name = r.links.key
  if M.unique ~= 'active' or not name or r.state > WAITING then return end
  local id = call('HGET', key('keys'), name)
  if id ~= r.id then
    say('key ' .. shown(name) .. ' of job ' .. shown(r.id) .. ' is held by ' .. (id and shown(id) or 'nobody'),
      not id and function() keys[name] = r.id end)
  end
end

local function look_at_parent(r)
  local parent = r.links.parent
  if not parent then return end
  if r.state <= WAITING then
    local family = parent .. '\0' .. r.links.family
    opens[family] = (opens[family] or 0) + 1
  end
  if not call('ZSCORE', key('kids:' .. parent), r.id) then
    say('job ' .. shown(r.id) .. ' is not among the children of ' .. shown(parent),
      function() add(kids, '+' .. parent, 0, r.id) end)
  end
end

local function look_at_record(r)
  true_counts[r.state] = true_counts[r.state] + 1
  if r.links then
    look_at_key(r)
    look_at_parent(r)
  end
  if r.state == READY and r.crashes == 0 then
    local lanes = r.listed and listed or lined
    lanes[r.lane] = (lanes[r.lane] or 0) + 1
  end
  local name, member = place_of(r)
  if not name then return end
  if call('ZSCORE', key(name), member) then
    standing[name] = (standing[name] or 0) + 1
  else
    say('job ' .. shown(r.id) .. ' is ' .. STATES[r.state] .. ', but the index does not say so', function()
      local due = r.state < DONE and now or nil
      call('ZADD', key(name), (r.state == READY or r.state == WAITING) and score_of(r) or due or '+inf', member)
    end)
  end
end

local function look_at_records()
  local links = call('EXISTS', key('links')) == 1
  each_part('jobs', function(ids, blobs)
    local lives = fields_of('HMGET', key('live'), ids)
    local linkss = links and fields_of('HMGET', key('links'), ids) or {}
    for i, id in ipairs(ids) do
      if lives[i] then
        look_at_record(decode(id, lives[i], linkss[i]))
      elseif linkss[i] then
        look_at_record(pristine(id, blobs[i], linkss[i]))
      else
        local lane = given(blobs[i])
        true_counts[READY], listed[lane] = true_counts[READY] + 1, (listed[lane] or 0) + 1
      end
    end
  end)
  each_part('live', function(ids, texts)
    for i, blob in ipairs(fields_of('HMGET', key('jobs'), ids)) do
      if not blob then
        look_at_record(decode(ids[i], texts[i], links and call('HGET', key('links'), ids[i])))
        say('job ' .. shown(ids[i]) .. ' has lost its body')
      end
    end
  end)
end

local function look_for_strays(name)
  if call('ZCARD', key(name)) == (standing[name] or 0) then return end
  each_member(name, function(member)
    local id = sub(member, 8)
    local r = record(id)
    local where, which
    if r then where, which = place_of(r) end
    if where ~= name or which ~= member then
      say(name .. ' holds job ' .. shown(id) .. ', which is not there',
        function() call('ZREM', key(name), member) end)
    end
  end)
end

local function look_at_list(lane)
  local name, at, valid, last = 'list:' .. lane, 0, 0, -1
  repeat
    local part, ids = call('LRANGE', key(name), at, at + 99), {}
    for i, entry in ipairs(part) do ids[i] = sub(entry, 8) end
    local blobs, lives = fields_of('HMGET', key('jobs'), ids), fields_of('HMGET', key('live'), ids)
    for i, entry in ipairs(part) do
      local blob, number = blobs[i], number_of(entry)
      local there = blob and not lives[i] and sub(blob, 1, 7) == sub(entry, 1, 7) and given(blob) == lane
      if there and number > last then valid, last = valid + 1, number end
    end
    at = at + 100
  until #part == 0
  if valid == (listed[lane] or 0) then return end
  say('lane ' .. shown(lane) .. ' lists ' .. valid .. ' jobs, expected ' .. (listed[lane] or 0), function()
    local entries = {}
    each_pair('jobs', function(id, blob)
      if call('HEXISTS', key('live'), id) == 0 and given(blob) == lane then
        entries[#entries + 1] = {number_of(blob), sub(blob, 1, 7) .. id}
      end
    end)
    table.sort(entries, function(a, b) return a[1] < b[1] end)
    call('DEL', key(name))
    for i, entry in ipairs(entries) do entries[i] = entry[2] end
    many('RPUSH', key(name), entries)
  end)
end

local function look_at_lane(lane)
  look_at_list(lane)
  look_for_strays('line:' .. lane)
  local true_count = (listed[lane] or 0) + (lined[lane] or 0)
  local in_ring = call('ZSCORE', key('ring'), lane) and call('ZSCORE', key('names'), lane) and true or false
  if ready_in(lane) ~= true_count or in_ring ~= (true_count > 0) then
    say('lane ' .. shown(lane) .. ' counts ' .. ready_in(lane) .. ' jobs, expected ' .. true_count
      .. (in_ring and '' or ', and is not in the ring'), function()
      counts[lane], stirred[lane] = true_count, true
      M.turns = M.turns + 1
      ring[lane] = true_count > 0 and M.turns
    end)
  end
end

local function look_at_lanes()
  local lanes = {}
  for _, lane in ipairs(call('HKEYS', key('lanes'))) do lanes[lane] = true end
  for lane in pairs(listed) do lanes[lane] = true end
  for lane in pairs(lined) do lanes[lane] = true end
  each_member('ring', function(lane) lanes[lane] = true end)
  for lane in pairs(lanes) do look_at_lane(lane) end
end

local function look_at_keys()
  -- One that is held for ever may outlive its job, and a later job may have that id.
  if M.unique == 'forever' then return end
  each_pair('keys', function(name, id)
    local r = record(id)
    local same = r and r.links and r.links.key == name
    if not same or not holds(r.state, r.more.p or 0) then
      say('key ' .. shown(name) .. ' is held by job ' .. shown(id) .. ', which has no claim to it',
        function() keys[name] = false end)
    end
  end)
end

local function look_at_families()
  each_pair('live', function(id, text)
    local r = decode(id, text)
    local open = opens[id .. '\0' .. r.family] or 0
    if (r.more.o or 0) ~= open then
      say('job ' .. shown(id) .. ' counts ' .. (r.more.o or 0) .. ' open children, and has ' .. open)
    elseif r.state ~= WAITING or open > 0 then
      return
    else
      say('job ' .. shown(id) .. ' waits, and has no open children')
    end
    mending[#mending + 1] = function()
      fetch({id})
      local p = R[id]
      if not p or p.gone then return end
      touch(p)
      p.more.o = open > 0 and open or nil
      local ends, why = go_on(p)
      if ends then finish(p, ends, why, {}) end
    end
  end)
end

local function look_at_counts()
  for state, name in ipairs(STATES) do
    local told, true_count = M[name], true_counts[state]
    -- Records of ended jobs go, and stay counted.
    if told < true_count or (told > true_count and state <= WAITING) then
      say(told .. ' jobs are counted as ' .. name .. ', and there are ' .. true_count,
        function() M[name] = true_count end)
    end
  end
  local sum = M.removed
  for _, name in ipairs(STATES) do sum = sum + M[name] end
  if sum ~= M.put then say(M.put .. ' jobs were put, but those removed and in the seven states make ' .. sum) end
end
