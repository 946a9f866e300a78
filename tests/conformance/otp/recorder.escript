#!/usr/bin/env escript
%%! +S 1:1
%% Plays scenarios on the supervisors of Erlang/OTP, and writes down what happened.
%%
%% Reads one Erlang term after the other from its input, each a scenario `#{tree => Supervisor, ops => [Op]}`, see
%% README.md. Writes a line of JSON for each: of every operation its answer, what the processes did, and, if one of them
%% was held, the answers of what was asked in that time.
%%
%% The rule of this file: nothing is waited for by the clock. An operation is over when every process of the tree waits
%% for its next message and no signal is on its way to one (`at_rest`). One scheduler, so that a run can be repeated.
-module(recorder).
-mode(compile).
-export([main/1, start_worker/1, worker/2, start_supervisor/1, init/1]).

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
                {trace, Trace} -> erlang:demonitor(Mon, [flush]), io:put_chars([json(Trace), $\n]);
                {'DOWN', Mon, process, Pid, Reason} ->
                    io:format(standard_error, "~p while playing ~p~n", [Reason, Scenario]),
                    halt(1)
            end,
            play_all()
    end.

json(Text = [Char | _]) when is_integer(Char) -> [$", Text, $"];
json([]) -> "[]";
json(List) -> [$[, lists:join($,, [json(Each) || Each <- List]), $]].

%% --- the processes -------------------------------------------------------------------------------------------------

start_worker(Name) -> proc_lib:start_link(?MODULE, worker, [Name, self()]).

worker(Name, Parent) ->
    process_flag(trap_exit, true),
    case ask({begins, Name}) of
        [ok] -> proc_lib:init_ack({ok, self()}), worker_loop(Name, Parent);
        [info, Info] -> proc_lib:init_ack({ok, self(), Info}), worker_loop(Name, Parent);
        [ignore] -> proc_lib:init_ack(ignore);
        [fail, error] -> error(as_told);
        [fail, Reason] -> exit(term(Reason))
    end.

worker_loop(Name, Parent) ->
    receive
        {die, error} ->
            error(as_told);
        {die, Reason} ->
            exit(term(Reason));
        unlink ->
            unlink(Parent),
            worker_loop(Name, Parent);
        {'EXIT', Parent, Reason} ->
            case ask({asked, Reason}) of
                obey -> exit(Reason);
                refuse -> refuse();
                Other -> exit(term(Other))
            end
    end.

refuse() -> receive never -> refuse() end.

start_supervisor(Name) ->
    Result = supervisor:start_link(?MODULE, Name),
    [ask({buried, Name}) || element(1, Result) =:= error],
    Result.

init(Name) ->
    case ask({begins, Name}) of
        [ignore] -> ignore;
        [fail, error] -> error(as_told);
        [fail, Reason] -> exit(term(Reason));
        _ -> ask({configured, Name})
    end.

parent(Name) ->
    process_flag(trap_exit, true),
    director ! {top, start_supervisor(Name)},
    parent_loop().

parent_loop() ->
    receive
        {stop, Pid, Reason} -> [exit(Pid, term(Reason)) || is_pid(Pid)], parent_loop();
        {'EXIT', _, _} -> parent_loop()
    end.

ask(Question) ->
    director ! {ask, self(), Question},
    receive {director, Answer} -> Answer end.

%% --- the director --------------------------------------------------------------------------------------------------
%% Its state is in its process dictionary: {number, Name} how often Name began, {latest, Name} its process; {name, Pid};
%% {label, Pid};
%% {alive, Pid} the monitor; {next, Name} what its next starts come to, {stops, Name} what it does when it is to stop;
%% {family, Name} the description of a supervisor; `log`; `hold` who is to be held, `held` who is.

play(#{tree := Tree, ops := Ops}) ->
    register(director, self()),
    put(log, []),
    describe(top, Tree),
    put(parent, spawn(fun() -> receive start -> parent(top) end end)),
    Trace = [operation(Op) || Op <- [[start] | Ops] ++ [[stop, shutdown]]],
    Left = lists:sort([get({label, Pid}) || Pid <- alive()]),
    [exit(Pid, kill) || Pid <- [get(parent) | alive()]],
    drain(alive()),
    unregister(director),
    Trace ++ [[join(["left" | Left]), []] || Left =/= []].

drain([]) -> ok;
drain(_) -> step(infinity), drain(alive()).

operation([hold, Kind, Name, Op, Meanwhile]) ->
    put(hold, {Kind, Name}),
    Asked = perform(Op),
    settle([Asked]),
    Others =
        case erase(held) of
            undefined -> erase(hold), [];
            {Pid, Answer} ->
                meanwhile(Pid, [nothing]),
                Later = [meanwhile(Pid, Each) || Each <- Meanwhile],
                put(log, ["(released)" | get(log)]),
                Pid ! {director, Answer},
                settle([Asked | Later]),
                [answer(A) || A <- Later]
        end,
    [answer(Asked), lists:reverse(put(log, [])) | [Others || Others =/= []]];
operation(Op) ->
    Asked = perform(Op),
    settle([Asked]),
    [answer(Asked), lists:reverse(put(log, []))].

%% Does what is asked, or begins to: what it returns is for `answer`.
perform([start]) -> get(parent) ! start, top;
perform([stop, Reason]) -> get(parent) ! {stop, get({latest, top}), Reason}, none;
perform([next, Name | Outcomes]) -> put({next, Name}, Outcomes), none;
perform([nothing]) -> none;
perform([stops, Name, How]) -> put({stops, Name}, How), none;
perform([wait, Ms]) -> Until = erlang:monotonic_time(millisecond) + Ms, wait(Until), none;
perform([die, Name, kill]) -> [exit(Pid, kill) || Pid <- latest(Name)], none;
perform([die, Name, Reason]) -> [Pid ! {die, Reason} || Pid <- latest(Name)], none;
perform([unlink, Name]) -> [Pid ! unlink || Pid <- latest(Name)], none;
perform([update, Sup, Family]) ->
    case get({latest, Sup}) of
        undefined -> nobody;
        Pid ->
            describe(Sup, Family),
            Key = make_ref(),
            case get({alive, Pid}) of
                undefined -> put({reply, Key}, down);
                _ -> put(updating, Sup), spawn(fun() -> director ! {updated, Key, change_code(Pid)} end)
            end,
            {update, Key}
    end;
perform([start_child, Sup, Child]) when is_map(Child) -> request(Sup, {start_child, child(Child)});
perform([start_child, Sup, Name]) -> request(Sup, {start_child, [Name]});
perform([Request, Sup]) -> request(Sup, Request);
perform([Request, Sup, Name]) ->
    case {get({family, Sup}), get({latest, Name})} of
        {#{dynamic := _}, undefined} -> nobody;
        {#{dynamic := _}, Pid} -> request(Sup, {Request, Pid});
        _ -> request(Sup, {Request, Name})
    end.

request(Sup, Request) ->
    case get({latest, Sup}) of
        undefined -> nobody;
        Pid ->
            Mon = monitor(process, Pid),
            Pid ! {'$gen_call', {self(), Mon}, Request}, % as gen_server:call does, but without waiting
            {asked, Mon, kind(Sup)}
    end.

change_code(Pid) ->
    sys:suspend(Pid),
    Result = sys:change_code(Pid, ?MODULE, none, none),
    sys:resume(Pid),
    Result.

wait(Until) ->
    Left = Until - erlang:monotonic_time(millisecond),
    [begin step(Left), wait(Until) end || Left > 0].

%% What is done while somebody is held is over, but for what has to wait for those above him; they have all signals.
meanwhile(Held, Op) ->
    Dying = [Pid || [die, Name, _] <- [Op], Pid <- latest(Name)],
    Asked = perform(Op),
    {dictionary, Dictionary} = process_info(Held, dictionary),
    Above = [Held | proplists:get_value('$ancestors', Dictionary)],
    Rests = fun(Pid) -> at_rest(Pid) orelse (lists:member(Pid, Above) andalso is_blocked(Pid)) end,
    settle_held(fun() ->
        Alive = alive(),
        Dying -- Alive =:= Dying andalso lists:all(Rests, Alive) andalso not lists:any(fun refuses/1, Alive)
            andalso lists:all(fun has_heard/1, Alive)
    end, 2),
    Asked.

settle_held(_, 0) -> ok;
settle_held(Rests, Times) ->
    case {step(0), Rests()} of
        {false, true} -> settle_held(Rests, Times - 1);
        _ -> step(1), settle_held(Rests, 2)
    end.

is_blocked(Pid) ->
    case process_info(Pid, [status, current_function]) of
        [{status, waiting}, {current_function, {Module, _, _}}] -> Module =/= gen_server;
        _ -> false
    end.

refuses(Pid) -> process_info(Pid, current_function) =:= {current_function, {?MODULE, refuse, 0}}.

%% No exit signal is on its way to it: else it would be linked to the dead.
has_heard(Pid) ->
    case process_info(Pid, links) of
        {links, Links} -> lists:all(fun is_process_alive/1, Links);
        undefined -> false
    end.

settle(Asked) -> settle(Asked, 2).

settle(_, 0) -> ok;
settle(Asked, Times) ->
    case step(0) of
        true -> settle(Asked, 2);
        false ->
            Quiet = lists:all(fun answered/1, Asked) andalso lists:all(fun at_rest/1, alive()),
            case get(held) =/= undefined orelse Quiet of
                true -> settle(Asked, Times - 1);
                false -> step(1), settle(Asked, 2)
            end
    end.

%% It waits for its next message, and neither that nor an exit signal is on its way.
at_rest(Pid) ->
    case process_info(Pid, [status, message_queue_len, current_function]) of
        [{status, waiting}, {message_queue_len, 0}, {current_function, {Module, Function, _}}] ->
            lists:member({Module, Function}, [{gen_server, loop}, {?MODULE, worker_loop}, {?MODULE, refuse}])
                andalso has_heard(Pid);
        _ -> false
    end.

%% Handle one message, if there is one; false if there is none.
step(Patience) ->
    receive
        {ask, Pid, Question} -> deaths(), question(Pid, Question), true;
        {'DOWN', Mon, process, Pid, Reason} ->
            case get({alive, Pid}) of
                Mon -> ended(Pid, Reason);
                _ -> put({reply, Mon}, down)
            end,
            true;
        {top, Result} -> put({reply, top}, Result), true;
        {updated, Key, Result} -> put({reply, Key}, Result), true;
        {Mon, Reply} when is_reference(Mon) -> demonitor(Mon, [flush]), put({reply, Mon}, {reply, Reply}), true
    after Patience -> false
    end.

%% Whoever reacts to a death comes after it in the log: so first those that are dead, and whose DOWN is still to come.
deaths() ->
    [receive {'DOWN', Mon, process, Pid, Reason} -> ended(Pid, Reason) end
     || Pid <- alive(), not is_process_alive(Pid), Mon <- [get({alive, Pid})]].

ended(Pid, Reason) ->
    erase({alive, Pid}),
    log([get({label, Pid}), "ends:", reason(Reason)]).

question(Pid, {begins, Name}) ->
    case get(updating) of
        Name -> Pid ! {director, [ok]};
        _ ->
            Number = case get({number, Name}) of undefined -> 1; N -> N + 1 end,
            put({number, Name}, Number),
            put({name, Pid}, Name),
            put({label, Pid}, text(Name) ++ "#" ++ integer_to_list(Number)),
            Outcome =
                case get({next, Name}) of
                    [First | Others] -> put({next, Name}, Others), First;
                    _ -> [ok]
                end,
            log([get({label, Pid}), "begins:" | [text(Word) || Word <- Outcome]]),
            [begin put({alive, Pid}, monitor(process, Pid)), put({latest, Name}, Pid) end
             || lists:member(hd(Outcome), [ok, info])],
            reply(Pid, {start, Name}, Outcome)
    end;
question(Pid, {asked, Reason}) ->
    Name = get({name, Pid}),
    log([get({label, Pid}), "asked:", reason(Reason)]),
    How = case get({stops, Name}) of undefined -> obey; Other -> Other end,
    reply(Pid, {stop, Name}, How);
question(Pid, {configured, Name}) ->
    erase(updating),
    Pid ! {director, configuration(get({family, Name}))};
question(Pid, {buried, Name}) ->
    Dead = get({latest, Name}),
    case get({alive, Dead}) of
        undefined -> ok;
        Mon -> receive {'DOWN', Mon, process, Dead, Reason} -> ended(Dead, Reason) end
    end,
    Pid ! {director, ok}.

reply(Pid, Moment, Answer) ->
    case get(hold) of
        Moment -> erase(hold), put(held, {Pid, Answer}), log(["(held)"]);
        _ -> Pid ! {director, Answer}
    end.

log(Words) -> put(log, [join(Words) | get(log)]).

alive() -> [Pid || {{alive, Pid}, _} <- get()].

latest(Name) -> [Pid || Pid <- [get({latest, Name})], get({alive, Pid}) =/= undefined].

%% --- descriptions --------------------------------------------------------------------------------------------------

describe(Name, Family) ->
    put({family, Name}, Family),
    [describe(Id, Sup) || #{id := Id, sup := Sup} <- maps:get(children, Family, [])].

configuration(Family = #{strategy := Strategy, intensity := Intensity, period := Period, auto := Auto}) ->
    Flags = #{intensity => Intensity, period => Period, auto_shutdown => Auto},
    case Family of
        #{dynamic := Template} -> {ok, {Flags#{strategy => simple_one_for_one}, [template(Template)]}};
        #{children := Children} -> {ok, {Flags#{strategy => Strategy}, [child(Each) || Each <- Children]}}
    end.

child(Child = #{id := Id}) ->
    Start =
        case Child of
            #{sup := Sup} -> describe(Id, Sup), start_supervisor;
            _ -> start_worker
        end,
    (maps:without([sup], Child))#{start => {?MODULE, Start, [Id]}}.

template(Child) -> Child#{start => {?MODULE, start_worker, []}}.

kind(Sup) ->
    case get({family, Sup}) of
        #{dynamic := _} -> dynamic;
        _ -> static
    end.

%% --- answers, as text ----------------------------------------------------------------------------------------------

answered({update, Key}) -> get({reply, Key}) =/= undefined;
answered({asked, Key, _}) -> get({reply, Key}) =/= undefined;
answered(top) -> get({reply, top}) =/= undefined;
answered(_) -> true.

answer(none) -> "-";
answer(nobody) -> "nobody";
answer(top) -> said(get({reply, top}), static);
answer({update, Key}) -> said(get({reply, Key}), static);
answer({asked, Key, Kind}) -> said(get({reply, Key}), Kind).

said(down, _) -> "down";
said({reply, Result}, Kind) -> said(Result, Kind);
said(ok, _) -> "ok";
said(ignore, _) -> "ignore";
said({ok, Map}, _) when is_map(Map) ->
    #{restart := Restart, shutdown := Shutdown, significant := Significant, type := Type} = Map,
    join(["spec", text(Restart), text(Shutdown), text(Significant), text(Type)]);
said({ok, Pid}, _) -> join(["ok", who(Pid)]);
said({ok, Pid, Info}, _) -> join(["ok", who(Pid), text(Info)]);
said({error, {already_started, Pid}}, _) -> join(["already_started", who(Pid)]);
said({error, {Reason, Child}}, static) when element(1, Child) =:= child -> join(["failed", reason(Reason)]);
said({error, not_found}, _) -> "not_found";
said({error, Word}, static) when Word =:= running; Word =:= restarting; Word =:= already_present -> text(Word);
said({error, Reason}, _) -> join(["failed", reason(Reason)]);
said([{specs, Specs}, {active, Active}, {supervisors, Sups}, {workers, Workers}], _) ->
    join([integer_to_list(N) || N <- [Specs, Active, Sups, Workers]]);
said(Children, dynamic) -> join(["children" | lists:sort([who(Pid) || {undefined, Pid, _, _} <- Children])]);
said(Children, static) -> join(["children" | [text(Id) ++ "=" ++ who(Pid) || {Id, Pid, _, _} <- Children]]).

who(Pid) when is_pid(Pid) -> get({label, Pid});
who(Word) -> text(Word).

reason({shutdown, {failed_to_start_child, Id, Reason}}) -> join(["failed_to_start", text(Id), reason(Reason)]);
reason({shutdown, Term}) -> "shutdown:" ++ text(Term);
reason({Where, Reason}) when Where =:= supervisor_data; Where =:= start_spec; Where =:= error -> reason(Reason);
reason({bad_combination, _}) -> "bad:bad_combination";
reason({_, Stack}) when is_list(Stack) -> "error";
reason({Why, _}) -> "bad:" ++ text(Why);
reason(Word) -> text(Word).

text(Word) when is_atom(Word) -> atom_to_list(Word);
text(Number) when is_integer(Number) -> integer_to_list(Number).

term([shutdown, Term]) -> {shutdown, Term};
term(Word) -> Word.

join(Words) -> lists:flatten(lists:join(" ", Words)).
