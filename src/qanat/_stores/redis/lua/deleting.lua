-- Remove a job with all that is known of it; false if it may not go: a leased one, unless `leased`.
local function delete(r, leased)
  if r.state == LEASED and not leased then return false end
  local name, ended = r.links and r.links.key, r.state >= DONE
  leave(r)
  M.removed = M.removed + 1
  remove(r)
  if name and M.unique ~= '' and holder(name) == r.id then keys[name] = false end
  known[r.id] = false
  if not ended then
    local parent, state, why = count_child(r, CANCELLED)
    if parent then finish(parent, state, why, {}) end
  end
  return true
end
