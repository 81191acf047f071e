-- The requests that wrk sends. Arguments after "--": scenario, file of tokens, number of posts, seed, and text that
-- the scenario may want.

local tokens, paths, posts, text = {}, {}, 0, ""

-- Percent of the readers without an account in the mix of a day.
local ANONYMOUS = 30

-- Maximum voters per post: with more, most votes of a round would change nothing.
local CROWD = 200

local function read_tokens(file)
  for token in io.lines(file) do
    tokens[#tokens + 1] = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
  end
end

local function get(path)
  return wrk.format("GET", path, tokens[math.random(#tokens)])
end

-- Voters rotate and reverse their votes after each lap, so that every vote changes a tally.
local turns = 0
local function vote()
  local crowd = math.min(#tokens, posts * CROWD)
  local voter, lap = turns % crowd, math.floor(turns / crowd)
  turns = turns + 1
  local body = lap % 2 == 0 and '{"dir": 1}' or '{"dir": -1}'
  return wrk.format("PUT", "/posts/" .. math.random(posts) .. "/vote", tokens[voter + 1], body)
end

local function create()
  local body = '{"title": "Title ' .. math.random(1000000) .. '", "content": "' .. text .. '"}'
  return wrk.format("POST", "/posts", tokens[math.random(#tokens)], body)
end

-- The accounts are those of benchmarks/data.py; text is their password, as a form has it.
local function login()
  local form = "username=user" .. math.random(#tokens) .. "%40example.com&password=" .. text
  return wrk.format("POST", "/login", { ["Content-Type"] = "application/x-www-form-urlencoded" }, form)
end

-- A file of paths, read at the first request.
local function any_path()
  if #paths == 0 then
    for path in io.lines(text) do paths[#paths + 1] = path end
  end
  return get(paths[math.random(#paths)])
end

local function read_by_anyone(path)
  if math.random(100) <= ANONYMOUS then return wrk.format("GET", path) end
  return get(path)
end

-- Of a hundred requests 70 are lists, 20 read a post, 8 vote and 2 write a post.
local function day()
  local drawn = math.random(100)
  if drawn <= 70 then return read_by_anyone("/posts?limit=10") end
  if drawn <= 90 then return read_by_anyone("/posts/" .. math.random(posts)) end
  if drawn <= 98 then return vote() end
  return create()
end

local scenarios = {
  list = function() return get("/posts?limit=10") end,
  get = function() return get("/posts/" .. math.random(posts)) end,
  path = function() return get(text) end,
  paths = any_path,
  day = day,
  vote = vote,
  create = create,
  login = login,
}

function scenarios.mixed()
  return scenarios[({ "list", "get", "vote" })[math.random(3)]]()
end

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
    'measured {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failures": %d, "refused": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status
  ))
end
