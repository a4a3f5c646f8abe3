-- What every script begins with, behind the time: short names, and those of keys.
local call, unpack, pairs, ipairs, tonumber = redis.call, unpack, pairs, ipairs, tonumber
local sub, byte = string.sub, string.byte
local pack, parse = struct.pack, struct.unpack

local PREFIX = sub(KEYS[1], 1, -5)
-- The one place where the name of a key is made.
local function key(name) return PREFIX .. name end
-- How many the short ways are for. With more it makes no difference what a call costs.
local FEW = 100
-- Bytes of bodies in one answer: what is over comes with the next claim.
local BYTES = 67108864
-- Whether a short way has found that there are more: the next one need not read them, too.
local is_large = false
