-- What short ways do to a lane. Nothing here can fail where the types were looked at before.

-- Let a lane have so many left that are ready; one with none leaves.
local function lane_left(lane, left)
  if left > 0 then
    call('HSET', key('lanes'), lane, left)
  else
    call('ZREM', key('ring'), lane)
    call('ZREM', key('names'), lane)
    call('HDEL', key('lanes'), lane)
  end
end
