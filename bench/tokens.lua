-- A script for wrk: each request has the next token of a file. After the last token, wrk ends the run.
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
