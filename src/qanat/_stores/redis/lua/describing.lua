-- What is known of jobs: id, record as put, live, links, due, value, error, note; false if it is not there.
local function describe(ids)
  local out, found = {}, {}
  for _, name in ipairs({'jobs', 'live', 'links', 'value', 'error', 'note'}) do
    found[name] = fields_of('HMGET', key(name), ids)
  end
  local asked = {}
  for i, id in ipairs(ids) do
    if found.live[i] then
      local r = decode(id, found.live[i])
      local name = r.state ~= READY and r.state ~= WAITING and STATES[r.state]
      if name then
        local _, member = place_of(r)
        add(asked, name, member, i)
      end
    end
  end
  local due = {}
  for name, pairs_ in pairs(asked) do
    local members = {}
    for i = 1, #pairs_, 2 do members[#members + 1] = pairs_[i] end
    for i, score in ipairs(fields_of('ZMSCORE', key(name), members)) do due[pairs_[2 * i]] = score end
  end
  for i, id in ipairs(ids) do
    out[i] = found.jobs[i] and {
      id, found.jobs[i], found.live[i], found.links[i], due[i] or false, found.value[i], found.error[i],
      found.note[i],
    } or false
  end
  return out
end
