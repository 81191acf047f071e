-- The requests that wrk sends. Arguments after "--": scenario, file of tokens, number of posts, seed, and text that
-- the scenario may want.

local tokens, posts, text = {}, 0, ""

local function read_tokens(file)
  for token in io.lines(file) do
    tokens[#tokens + 1] = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
  end
end

local function any_token()
  return tokens[math.random(#tokens)]
end

local function get(path)
  return wrk.format("GET", path, any_token())
end

local function vote(post)
  local body = math.random(2) == 1 and '{"dir": 1}' or '{"dir": -1}'
  return wrk.format("PUT", "/posts/" .. post .. "/vote", any_token(), body)
end

local scenarios = {
  list = function() return get("/posts?limit=10") end,
  get = function() return get("/posts/" .. math.random(posts)) end,
  create = function()
    local body = '{"title": "Title ' .. math.random(1000000) .. '", "content": "' .. text .. '"}'
    return wrk.format("POST", "/posts", any_token(), body)
  end,
  vote = function() return vote(math.random(posts)) end,
  path = function() return get(text) end,
}

function init(arguments)
  read_tokens(arguments[2])
  posts = tonumber(arguments[3])
  math.randomseed(tonumber(arguments[4]))
  text = arguments[5]
  request = scenarios[arguments[1]]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'measured {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failures": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
