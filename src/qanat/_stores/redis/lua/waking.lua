-- Who waits for more: `waiters`, a sorted set of ears by until when they are believed to wait. Nothing
-- depends on it, so what goes wrong here, as with an access list that forbids PUBLISH, is let pass.

local WAITS, WAKES = 3000, 100
local try = redis.pcall

local function wait_for_more(ear)
  if ear ~= '' then try('ZADD', key('waiters'), now + WAITS, ear) end
end

local function wait_no_more(ear)
  if ear ~= '' then try('ZREM', key('waiters'), ear) end
end

-- Wake up to n of those who wait, the one that has waited longest first. Who is not heard of is passed
-- over, but in a cluster: there it may hear through another node.
local function wake(n)
  if call('EXISTS', key('waiters')) == 0 then return end
  local prefix, queue = string.match(KEYS[1], '^(.*):{(.*)}:meta$')
  try('ZREMRANGEBYSCORE', key('waiters'), '-inf', now)
  local names, told = try('ZRANGE', key('waiters'), 0, WAKES - 1), {}
  if names.err then return end
  for _, ear in ipairs(names) do
    if n <= 0 then break end
    told[#told + 1] = ear
    local heard = try('PUBLISH', prefix .. ':wake:' .. ear, queue)
    if heard ~= 0 then n = n - 1 end
  end
  try('ZREM', key('waiters'), unpack(told))
end
