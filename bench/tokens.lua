-- For wrk: sends each request with the next token of a file, and stops when there are no more.
local tokens, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    tokens[#tokens + 1] = "Bearer " .. line
  end
end

function request()
  at = at + 1
  if at > #tokens then
    wrk.thread:stop()
    at = #tokens
  end
  wrk.headers["Authorization"] = tokens[at]
  return wrk.format("GET", nil, wrk.headers)
end
