#!/usr/bin/env escript
%%! +S 1:1
%% Plays scenarios with processes of Erlang/OTP, each a gen_server, and writes down what each of them saw and did.
%%
%% Reads one Erlang term after the other from its input, each a scenario `#{traps => [Name], ops => [Op]}`, see README.md.
%% Writes a line of JSON for each: of every operation what happened until nothing more happened by itself, sorted by
%% process, since only what one process sees has an order.
%%
%% The rule of this file: nothing but `wait`, timers and timeouts is waited for by the clock. An operation is over when
%% all processes wait and no signal is on its way to one (`quiet`). One scheduler, so that a run can be repeated.
-module(recorder).
-mode(compile).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).

main(_) ->
    logger:set_primary_config(level, none),
    play_all().

play_all() ->
    case io:read('') of
        eof ->
            ok;
        {ok, Scenario} ->
            Me = self(),
            {Pid, Mon} = spawn_monitor(fun() -> Me ! {trace, play(Scenario)} end),
            receive
                {trace, Trace} ->
                    receive {'DOWN', Mon, process, Pid, _} -> ok end, % its name is free again
                    io:put_chars([json(Trace), $\n]);
                {'DOWN', Mon, process, Pid, Reason} ->
                    io:format(standard_error, "~p while playing ~p~n", [Reason, Scenario]),
                    halt(1)
            end,
            play_all()
    end.

json(Text = [Char | _]) when is_integer(Char) -> [$", Text, $"];
json([]) -> "[]";
json(List) -> [$[, lists:join($,, [json(Each) || Each <- List]), $]].

%% --- the servers ---------------------------------------------------------------------------------------------------
%% A message brings what is to be done when it is handled: a list of actions. The table `book` has what everybody may
%% know: {latest, Name} and {label, Pid}; and, under the keys that actions give them, monitors, timers and requests.

init({Name, Program}) ->
    process_flag(trap_exit, known({traps, Name})),
    director ! {born, self(), Name},
    receive {director, go} -> ok end,
    log(["init"]),
    case run(Program) of
        ignore -> ignore;
        {stop, Reason} -> {stop, Reason};
        {continue, Label, Next} -> {ok, none, {continue, {Label, Next}}};
        {idle, Ms} -> {ok, none, Ms};
        go -> {ok, none}
    end.

handle_call({Label, Program}, From, _) ->
    log(["call", Label]),
    case run(Program) of
        {keep, Key} -> note({request, Key}, From), {noreply, none};
        {return, Value} -> {reply, Value, none};
        {stop, Reason} -> {stop, Reason, none};
        {stop, Reason, Value} -> {stop, Reason, Value, none};
        {continue, Next, Then} -> {reply, ok, none, {continue, {Next, Then}}};
        {idle, Ms} -> {reply, ok, none, Ms};
        go -> {reply, ok, none}
    end.

handle_cast({Label, Program}, _) -> log(["cast", Label]), handled(run(Program)).

handle_info({say, Label, Program}, _) -> log(["info", Label]), handled(run(Program));
handle_info({timeout, Timer, {say, Label, Program}}, _) ->
    log(["timer", known({key, Timer}), Label]),
    handled(run(Program));
handle_info({'DOWN', Mon, process, _, Reason}, _) -> log(["down", known({key, Mon}), reason(Reason)]), {noreply, none};
handle_info({'EXIT', Pid, Reason}, _) -> log(["exit", who(Pid), reason(Reason)]), {noreply, none};
handle_info(timeout, _) -> log(["timeout"]), {noreply, none};
handle_info({Call, _}, _) when is_reference(Call) -> {noreply, none}. % a second answer

handle_continue({Label, Program}, _) -> log(["continue", Label]), handled(run(Program)).

terminate(Reason, _) ->
    log(["terminate", reason(Reason)]),
    case get(at_end) of
        undefined -> ok;
        Program -> run(Program)
    end.

handled({stop, Reason}) -> {stop, Reason, none};
handled({continue, Label, Program}) -> {noreply, none, {continue, {Label, Program}}};
handled({idle, Ms}) -> {noreply, none, Ms};
handled(go) -> {noreply, none}.

%% Does one action after the other, until one says what comes of all this.
run([]) -> go;
run([Action | Others]) ->
    case act(Action) of
        go -> run(Others);
        Outcome -> Outcome
    end.

act([link, Name]) ->
    Pid = known({latest, Name}),
    try link(Pid) catch error:noproc -> exit(self(), noproc) end, % to whoever traps exits `link` sends a signal itself
    go;
act([unlink, Name]) -> % as its manual shows, with what is in the queue already
    Pid = known({latest, Name}),
    unlink(Pid),
    receive {'EXIT', Pid, _} -> go after 0 -> go end;
act([monitor, Key, Target]) -> name({monitor, self(), Key}, Key, monitor(process, target(Target))), go;
act([demonitor, Key, Flush]) ->
    [demonitor(Mon, [flush || Flush]) || Mon <- [known({monitor, self(), Key})], Mon =/= undefined],
    go;
act([exit, Name, Reason]) -> exit(known({latest, Name}), term(Reason)), go;
act([cast, Target, Label, Program]) -> gen_server:cast(target(Target), {Label, Program}), go;
act([send, Target, Label, Program]) -> catch target(Target) ! {say, Label, Program}, go;
act([call, Target, Label, Program, Timeout]) ->
    log(["asks", Label, answer(fun() -> gen_server:call(target(Target), {Label, Program}, Timeout) end)]),
    go;
act(['after', Key, Ms, Target, Label, Program]) ->
    note({timer, Key}, erlang:send_after(Ms, target(Target), {say, Label, Program})), go;
act([timer, Key, Ms, Target, Label, Program]) ->
    name({timer, Key}, Key, erlang:start_timer(Ms, target(Target), {say, Label, Program})), go;
act([cancel, Key]) -> log(["cancel", Key, left(Key, fun erlang:cancel_timer/1)]), go;
act([read, Key]) -> log(["read", Key, left(Key, fun erlang:read_timer/1)]), go;
act([register, Name]) -> log(["register", Name, try register(Name, self()) of true -> yes catch error:badarg -> no end]), go;
act([unregister, Name]) -> catch unregister(Name), go;
act([whereis, Name]) -> log(["whereis", Name, who(whereis(Name))]), go;
act([reply, Key, Value]) ->
    [gen_server:reply(From, Value) || From <- [known({request, Key})], From =/= undefined],
    go;
act([at_end, Program]) -> put(at_end, Program), go;
act([hold]) -> director ! {held, self()}, hold(), go;
act([halt, Target, Reason]) ->
    log(["halts", Target, answer(fun() -> gen_server:stop(target(Target), term(Reason), infinity) end)]),
    go;
act([start | How]) -> log(["starts" | start(start, How)]), go;
act([start_link | How]) -> log(["starts" | start(start_link, How)]), go;
act([quit, Reason]) -> exit(term(Reason));
act([error]) -> error(as_told);
act([ignore]) -> ignore;
act([stop, Reason]) -> {stop, term(Reason)};
act([stop, Reason, Value]) -> {stop, term(Reason), Value};
act([return, Value]) -> {return, Value};
act([keep, Key]) -> {keep, Key};
act([continue, Label, Program]) -> {continue, Label, Program};
act([idle, Ms]) -> {idle, Ms}.

hold() -> receive release -> ok end.

start(How, [Name, Program | Registered]) ->
    Args = [{local, Each} || Each <- Registered] ++ [?MODULE, {Name, Program}, []],
    case apply(gen_server, How, Args) of
        {ok, Pid} -> [Name, "ok", who(Pid)];
        ignore -> [Name, "ignore"];
        {error, {already_started, Pid}} -> [Name, "already_started", who(Pid)];
        {error, Reason} -> [Name, "failed", reason(Reason)]
    end.

answer(Ask) ->
    try join(["ok", Ask()])
    catch
        exit:{timeout, _} -> "timeout";
        exit:{calling_self, _} -> "calling_self";
        exit:{Reason, {Module, _, _}} when is_atom(Module) -> join(["down", reason(Reason)]);
        exit:Reason -> join(["down", reason(Reason)])
    end.

left(Key, Ask) ->
    case known({timer, Key}) of
        undefined -> "unknown";
        Timer -> case Ask(Timer) of false -> "gone"; _ -> "left" end
    end.

%% Names of processes stand for the pid that had them last, those of the registry for themselves.
target(Name) ->
    case lists:member(Name, [x, y]) of
        true -> Name;
        false -> known({latest, Name})
    end.

%% --- the book ------------------------------------------------------------------------------------------------------

note(Key, Value) -> ets:insert(book, {Key, Value}).

name(What, Key, Reference) -> note(What, Reference), note({key, Reference}, Key).

known(Key) ->
    case ets:lookup(book, Key) of
        [{_, Value}] -> Value;
        [] -> undefined
    end.

log(Words) -> director ! {log, who(self()), join(Words)}.

who(undefined) -> "nobody";
who(Pid) -> known({label, Pid}).

%% --- the director --------------------------------------------------------------------------------------------------

play(#{traps := Traps, ops := Ops}) ->
    register(director, self()),
    ets:new(book, [named_table, public]),
    [note({traps, Name}, lists:member(Name, Traps)) || Name <- [a, b, c, d]],
    put(log, []),
    Trace = [operation(Op) || Op <- Ops],
    [exit(Pid, kill) || Pid <- alive()],
    drain(alive()),
    Trace.

drain([]) -> ok;
drain(_) -> step(infinity), drain(alive()).

operation(Op) ->
    perform(Op),
    settle(2),
    Lines = lists:reverse(put(log, [])),
    [Who ++ " " ++ Line || {Who, Line} <- lists:keysort(1, Lines)].

perform([start | How]) ->
    {Pid, Mon} = spawn_monitor(fun() -> director ! {log, "-", join(["starts" | start(start, How)])} end),
    put({alive, Pid}, Mon);
perform([do, Name, Program]) -> [Pid ! {say, do, Program} || Pid <- [known({latest, Name})], is_pid(Pid)];
perform([release, Name]) -> [Pid ! release || Pid <- [known({latest, Name})], erase({held, Pid}) =:= true];
perform([wait, Ms]) -> wait(erlang:monotonic_time(millisecond) + Ms).

wait(Until) ->
    Left = Until - erlang:monotonic_time(millisecond),
    [begin step(Left), wait(Until) end || Left > 0].

settle(0) -> ok;
settle(Times) ->
    case {step(0), lists:all(fun quiet/1, alive())} of
        {false, true} -> settle(Times - 1);
        _ -> step(1), settle(2)
    end.

%% It waits: for its next message, of which there is none, or for something else.
quiet(Pid) ->
    case process_info(Pid, [status, message_queue_len, current_function, links]) of
        [{status, waiting}, {message_queue_len, Length}, {current_function, {Module, Function, _}}, {links, Links}] ->
            (Length =:= 0 orelse Module =/= gen_server) andalso lists:all(fun is_process_alive/1, Links)
                andalso waits(Module, Function);
        _ -> false
    end.

waits(gen_server, loop) -> true;
waits(?MODULE, hold) -> true;
waits(gen, do_call) -> true;
waits(proc_lib, Function) -> lists:member(Function, [sync_start, sync_start_link, stop]); % else it reports its crash
waits(_, _) -> false.

%% Handle one message, if there is one; false if there is none.
step(Patience) ->
    receive
        {log, Who, Line} -> put(log, [{Who, Line} | get(log)]), true;
        {held, Pid} -> put({held, Pid}, true), true;
        {born, Pid, Name} ->
            Number = case get({number, Name}) of undefined -> 1; N -> N + 1 end,
            put({number, Name}, Number),
            note({latest, Name}, Pid),
            note({label, Pid}, atom_to_list(Name) ++ "#" ++ integer_to_list(Number)),
            put({alive, Pid}, monitor(process, Pid)),
            Pid ! {director, go},
            true;
        {'DOWN', _, process, Pid, Reason} ->
            erase({alive, Pid}),
            [put(log, [{Who, join(["ends", reason(Reason)])} | get(log)]) || Who <- [who(Pid)], Who =/= undefined],
            true
    after Patience -> false
    end.

alive() -> [Pid || {{alive, Pid}, _} <- get()].

%% --- texts ---------------------------------------------------------------------------------------------------------

reason({shutdown, Term}) -> "shutdown:" ++ atom_to_list(Term);
reason({_, Stack}) when is_list(Stack) -> "error";
reason(Word) -> atom_to_list(Word).

term([shutdown, Term]) -> {shutdown, Term};
term(Word) -> Word.

join(Words) -> lists:flatten(lists:join(" ", [text(Word) || Word <- Words])).

text(Word) when is_atom(Word) -> atom_to_list(Word);
text(Text) -> Text.
