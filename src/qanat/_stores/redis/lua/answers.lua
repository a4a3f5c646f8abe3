-- What a client was told about its last batch, in `answers`: the batch's number, its deed, when it was, and
-- the answer.

-- Whether a batch was told already, or a later one.
local function is_told(client, number)
  local held = call('HGET', key('answers'), client)
  return held and number <= parse('>I7', held)
end

-- The answer to a batch that is repeated, or what is wrong with it; nil if it is new.
local function answered(client, number, deed)
  if client == '' then return nil end
  local held = call('HGET', key('answers'), client)
  if not held then return nil end
  local last, kind = parse('>I7B', held)
  if number > last then return nil end
  if number < last or kind ~= deed then return {'stamp', last, kind} end
  -- A full server tells, too, what it did when it was not: see `let_in_when_full`.
  call('DEL', key('none'))
  call('HINCRBY', KEYS[1], 'repeats', 1)
  return {'ok', sub(held, 15)}
end

local function remember(client, number, deed, answer)
  if client == '' then return end
  call('HSET', key('answers'), client, pack('>I7BI6', number, deed, now) .. answer)
end
