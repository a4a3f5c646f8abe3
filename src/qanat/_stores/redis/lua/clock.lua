-- The server's own time, in whole milliseconds. Tests put another line in place of this one.
local now = (function(t) return t[1] * 1000 + math.floor(t[2] / 1000) end)(redis.call('TIME'))
