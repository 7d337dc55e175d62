-- One commit, as one: KEYS are the lease, the marker and one key for each change.
-- ARGV are the token, the number of this commit, the marker's life in ms, "release" or "keep",
-- and for each change three words: its name and two operands.
local lease, marker = KEYS[1], KEYS[2]
local token, number, marker_life, release = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == 'release'

-- A commit is repeated when no answer came. Once it took effect it must not do so again: it may arrive late, by a
-- connection given up long ago, after others that build on it.
local last = redis.call('GET', marker)
if last and tonumber(last) >= tonumber(number) then
  return {'done'}
end
if redis.call('GET', lease) ~= token then
  return {'lost'}
end

local function change(i)
  local at = 5 + 3 * (i - 3)
  return KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2]
end

-- What a failing script has written stays written, so everything that can fail is looked at before.
local kinds = {}
for i = 3, #KEYS do
  local key, name = change(i)
  local found = kinds[key] or redis.call('TYPE', key).ok
  local wanted = (name == 'set' or name == 'delete') and 'string' or 'hash'
  if found ~= 'none' and found ~= wanted then
    return {'type', key}
  end
  kinds[key] = wanted
end

-- By bytes: Lua's own comparison follows the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function trim(map, keep)
  local surplus = redis.call('HLEN', map) - keep
  if surplus <= 0 then
    return
  end
  local fields = redis.call('HKEYS', map)
  table.sort(fields, less)
  for from = 1, surplus, 1000 do
    redis.call('HDEL', map, unpack(fields, from, math.min(from + 999, surplus)))
  end
end

-- First a write that needs memory: a server that has none refuses it, and so the whole commit. Then every command that is to
-- follow, on the marker: one that the user may not run fails before anything is written.
redis.call('SET', marker, last or '-1', 'PX', marker_life)
redis.call('DEL', marker)
for i = 3, #KEYS do
  local name = select(2, change(i))
  if name == 'map-set' then
    redis.call('HSET', marker, 'f', '')
  elseif name == 'map-delete' or name == 'map-trim' then
    redis.call('HDEL', marker, 'f')
  end
end
redis.call('DEL', marker)

redis.call('SET', marker, number, 'PX', marker_life)
for i = 3, #KEYS do
  local key, name, a, b = change(i)
  if name == 'set' and b == '' then
    redis.call('SET', key, a)
  elseif name == 'set' then
    redis.call('SET', key, a, 'PX', b)
  elseif name == 'delete' then
    redis.call('DEL', key)
  elseif name == 'map-set' then
    redis.call('HSET', key, a, b)
  elseif name == 'map-delete' then
    redis.call('HDEL', key, a)
  elseif name == 'map-trim' then
    trim(key, tonumber(a))
  end
end
if release then
  redis.call('DEL', lease)
end
return {'done'}
