-- ARGV: count, then ids, and '1' if leased ones go too.
let_in_when_full()
local ids, answers = {}, {}
for i = 1, tonumber(ARGV[1]) do ids[i] = ARGV[i + 1] end
local leased = ARGV[#ids + 2] == '1'
fetch(ids, true)
for i, id in ipairs(ids) do
  local r = R[id]
  if not r or r.gone then
    answers[i] = 'unknown'
  else
    answers[i] = delete(r, leased) and 'deleted' or 'leased'
  end
end
flush()
return answers
