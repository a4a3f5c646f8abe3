-- ARGV: ids, all of them.
let_in_when_full()
local ids, answers = {}, {}
for i = 1, tonumber(ARGV[1]) do ids[i] = ARGV[i + 1] end
fetch(ids, true)
for i, id in ipairs(ids) do
  local r = R[id]
  if not r or r.gone then
    answers[i] = 'unknown'
  elseif r.state >= DONE then
    answers[i] = 'ended'
  elseif r.state == LEASED then
    touch(r)
    r.more.c = 1
    answers[i] = 'asked'
  else
    finish(r, CANCELLED, 'cancelled', {})
    answers[i] = 'cancelled'
  end
end
flush()
return answers
