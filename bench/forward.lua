-- wrk as a forward proxy's client: the arguments after `--` are the origin and the path.
function init(args)
  wrk.headers["Host"] = args[1]
  wrk.path = "http://" .. args[1] .. args[2]
  local request = wrk.format()
  wrk.request = function() return request end
end
