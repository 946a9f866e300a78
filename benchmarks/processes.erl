%% The measures of processes.py, in Erlang. Run by peers.py:  erl ... -s processes main MEASURE NUMBER
%%
%% Rule of this file: the same work, counted in the same units, printed as one line of JSON.
%% A kill is exit(Pid, kill), as in our own subjects; "born" is the replacement's init saying so.
-module(processes).
-behaviour(supervisor).
-export([main/1, init/1, start_child/1, handle_call/3, handle_cast/2]).

main([Measure, Number]) ->
    Numbers = measure(Measure, list_to_integer(atom_to_list(Number))),
    io:format("{~s}~n", [lists:join(", ", [io_lib:format("\"~s\": ~w", [K, V]) || {K, V} <- Numbers])]),
    halt(0).

measure(idle, N) ->
    Bytes = erlang:memory(processes), Resident = rss(), Began = now_us(),
    Pids = [spawn(fun idle/0) || _ <- lists:seq(1, N)],
    Started = now_us(),
    Numbers = [{"start", N * 1.0e6 / (Started - Began)}, {"bytes", (rss() - Resident) / N},
               {"counted", (erlang:memory(processes) - Bytes) / N}, {"threads", threads()}],
    Monitors = [monitor(process, Pid) || Pid <- Pids],
    Stopping = now_us(),
    [Pid ! stop || Pid <- Pids],
    [receive {'DOWN', Monitor, _, _, _} -> ok end || Monitor <- Monitors],
    [{"stop", N * 1.0e6 / (now_us() - Stopping)} | Numbers];
measure(tell, Pairs) ->
    Each = 2000000 div Pairs, Me = self(),
    Options = [{message_queue_data, off_heap}],
    Sinks = [spawn_opt(fun() -> sink(Each), Me ! done end, Options) || _ <- lists:seq(1, Pairs)],
    {Before, _} = erlang:statistics(runtime), Began = now_us(),
    [spawn(fun() -> pump(Sink, Each) end) || Sink <- Sinks],
    [receive done -> ok end || _ <- Sinks],
    Done = now_us(), {After, _} = erlang:statistics(runtime),
    [{"tell", Pairs * Each * 1.0e6 / (Done - Began)}, {"cpu", (After - Before) * 1000 / (Pairs * Each)}];
measure(ask, N) ->
    {ok, Server} = gen_server:start(?MODULE, echo, []),
    Asked = [took(fun() -> gen_server:call(Server, I) end) || I <- lists:seq(1, N)],
    Ponger = spawn(fun pong/0),
    Rallies = [took(fun() -> ping(Ponger, 200) end) / 200 || _ <- lists:seq(1, N div 200)],
    [{"between", percentile(Asked, 50)}, {"pingpong", percentile(Rallies, 50)}];
measure(restart, N) ->
    {ok, _} = supervisor:start_link(?MODULE, {one_for_one, self()}),
    Took = kill_in_turn(receive {born, Pid, _} -> Pid end, N, []),
    [{"p50", percentile(Took, 50)}, {"p99", percentile(Took, 99)}];
measure(storm, N) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, {simple_one_for_one, self()}),
    Pids = [Pid || {ok, Pid} <- [supervisor:start_child(Supervisor, []) || _ <- lists:seq(1, N)]],
    [receive {born, _, _} -> ok end || _ <- Pids],
    Began = now_us(),
    [exit(Pid, kill) || Pid <- Pids],
    [receive {born, _, _} -> ok end || _ <- Pids],
    [{"killed", N * 1.0e6 / (now_us() - Began)}];
measure(cost, N) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, {simple_one_for_one, self()}),
    Sample = min(N, 1000), Began = now_us(),
    Pids = [Pid || {ok, Pid} <- [supervisor:start_child(Supervisor, []) || _ <- lists:seq(1, N)]],
    Started = now_us(),
    [receive {born, _, _} -> ok end || _ <- Pids],
    Killing = now_us(),
    [exit(Pid, kill) || Pid <- lists:sublist(Pids, Sample)],
    New = [receive {born, Pid, _} -> Pid end || _ <- lists:seq(1, Sample)],
    Killed = now_us(),
    [ok = supervisor:terminate_child(Supervisor, Pid) || Pid <- New],
    [{"start", (Started - Began) / N}, {"restart", (Killed - Killing) / Sample},
     {"terminate", (now_us() - Killed) / Sample}].

%% What is measured.

idle() -> receive stop -> ok end.

pump(_, 0) -> ok;
pump(Sink, N) -> Sink ! {message, N}, pump(Sink, N - 1).

sink(0) -> ok;
sink(N) -> receive {message, _} -> sink(N - 1) end.

pong() -> receive {From, Ref} -> From ! Ref, pong() end.

ping(_, 0) -> ok;
ping(Ponger, N) ->
    Ref = make_ref(),
    Ponger ! {self(), Ref},
    receive Ref -> ping(Ponger, N - 1) end.

kill_in_turn(_, 0, Took) -> Took;
kill_in_turn(Pid, N, Took) ->
    Began = now_us(),
    exit(Pid, kill),
    receive {born, New, Born} -> kill_in_turn(New, N - 1, [Born - Began | Took]) end.

start_child(Parent) -> gen_server:start_link(?MODULE, {child, Parent}, []).

init({child, Parent}) -> Parent ! {born, self(), now_us()}, {ok, nil};
init(echo) -> {ok, nil};
init({Strategy, Parent}) ->
    {ok, {#{strategy => Strategy, intensity => 100000000, period => 1},
          [#{id => child, start => {?MODULE, start_child, [Parent]}, restart => permanent}]}}.

handle_call(Request, _, State) -> {reply, Request, State}.
handle_cast(_, State) -> {noreply, State}.

%% What is read.

now_us() -> erlang:monotonic_time(nanosecond) / 1000.

took(Do) -> Began = now_us(), Do(), now_us() - Began.

percentile(Values, Percent) -> lists:nth(1 + length(Values) * Percent div 100, lists:sort(Values)).

rss() ->
    {ok, Line} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:split(binary_to_list(Line), " ", all),
    list_to_integer(Pages) * 4096.

threads() ->
    {ok, Names} = file:list_dir("/proc/self/task"),
    length(Names).
