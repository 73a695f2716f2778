"""RabbitMQ: a virtual host per trial; ids are read by AMQP, virtual hosts are made over HTTP.

A consumer's unacknowledged messages cannot be read while it lives, and return to the queue when its
channel closes. So the backlog is read twice: once while the workers are frozen (what is ready), once
when they are dead and the queue has no consumer any more (ready and unacknowledged).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pika
import requests
from pika.adapters.blocking_connection import BlockingChannel

from lab.brokers.base import ALIAS, Broker, Depth, Namespace
from lab.engine.adapter import LOOPBACK
from lab.errors import BrokerSilent, DeadlineExpired
from lab.history import Backlog
from lab.settings import Settings

USER = "lab"
QUEUE = "celery"
DEAD_LETTERS = "dead"
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.02
NOT_FOUND = 404
ALARMED = 503
PROBE_BYTES = 1 << 16

#: How each limit is read and set, and a value that no machine can keep. 0 of all memory is documented as the
#: way to stop all publishing (https://www.rabbitmq.com/docs/memory); 1 EiB is more than any disk has free.
LIMITS = {
    "memory": ("vm_memory_monitor", "vm_memory_high_watermark", "0"),
    "disk": ("rabbit_disk_monitor", "disk_free_limit", "1 bsl 60"),
}


#: Has the server evaluate expressions, and ends with 0 when none failed: by ``erl_call``, which is no Erlang
#: node and so takes a sixth of the time, where the image has it; else by a node of its own. The cookie is in
#: the home of the server's user.
ASK = r"""
export HOME=/var/lib/rabbitmq
if command -v erl_call > /dev/null; then
    cookie=$(cat "$HOME/.erlang.cookie")
    printf '%s\n' "$1" | erl_call -sname "rabbit@$(hostname)" -c "$cookie" -e | grep -q '^{ok,'
else
    exec erl -boot start_clean -noinput -hidden -sname "lab$$" -eval "$2" -extra "$1"
fi
"""
BY_A_NODE = """
    [Text] = init:get_plain_arguments(),
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Server = list_to_atom("rabbit@" ++ element(2, inet:gethostname())),
    case rpc:call(Server, erl_eval, exprs, [Expressions, []]) of
        {value, _, _} -> halt(0);
        _ -> halt(1)
    end.
"""


class RabbitMQ(Broker):
    """A RabbitMQ server with its management interface."""

    ports = ("LAB_PORT", "LAB_ADMIN_PORT")
    inner_port = 5672

    def admin(
        self, method: str, path: str, body: object = None, accept: int = NOT_FOUND
    ) -> requests.Response:
        """One call of the management interface; ``accept`` is an error that is an answer too.

        Raises :class:`BrokerSilent`.
        """
        url = f"http://{LOOPBACK}:{self.public['LAB_ADMIN_PORT']}/api/{path}"
        with _asking():
            answer = requests.request(
                method, url, json=body, auth=(USER, self.password), timeout=ANSWER_SECONDS
            )
            if answer.status_code != accept:
                answer.raise_for_status()
        return answer

    @contextmanager
    def channel(self, virtual_host: str) -> Iterator[BlockingChannel]:
        """A channel of a connection of its own. Raises :class:`BrokerSilent`."""
        parameters = pika.ConnectionParameters(
            host=LOOPBACK,
            port=self.public["LAB_PORT"],
            virtual_host=virtual_host,
            credentials=pika.PlainCredentials(USER, self.password),
            socket_timeout=ANSWER_SECONDS,
            blocked_connection_timeout=ANSWER_SECONDS,
        )
        with _asking():
            connection = pika.BlockingConnection(parameters)
            try:
                yield connection.channel()
            finally:
                if connection.is_open:
                    connection.close()

    def version(self) -> str:
        version = self.admin("GET", "overview").json().get("rabbitmq_version")
        if not version:  # seen with 3.8 and 3.10 while they start
            raise BrokerSilent("RabbitMQ does not say its version yet", "run it again")
        with self.channel("/"):
            return str(version)

    def shut_down(self) -> None:
        self.node.begin(["sh", "-c", ASK, "sh", "rabbit:stop_and_halt().", BY_A_NODE])

    def control(self, *words: str) -> None:
        """Have ``rabbitmqctl`` do something. Raises :class:`BrokerSilent` when it could not."""
        if self.node.execute(["rabbitmqctl", "--quiet", *words]):
            raise BrokerSilent(f"rabbitmqctl could not {words[0].replace('_', ' ')}", "run it again")

    def agrees(self, match: str) -> bool:
        """Whether this match of two Erlang terms holds in the server; any expression that does not fail does.

        What ``rabbitmqctl eval`` does, without the start of Elixir that takes most of its time.
        """
        return self.node.execute(["sh", "-c", ASK, "sh", match, BY_A_NODE]) == 0

    def evaluate(self, expressions: str) -> None:
        """Have the server evaluate these. Raises :class:`BrokerSilent` when one fails."""
        if not self.agrees(expressions):
            raise BrokerSilent(f"RabbitMQ could not evaluate {expressions}", "run it again")

    def raise_alarm(self, resource: str) -> None:
        """Set the limit as ``rabbitmqctl`` does; the server itself remembers the one that it had."""
        module, limit, beyond = LIMITS[resource]
        before = f"application:set_env(rabbit, lab_{resource}, {module}:get_{limit}())"
        self.evaluate(f"{before}, {module}:set_{limit}({beyond}).")

    def clear_alarm(self, resource: str) -> None:
        """One that was started again has its own limits already, and remembers nothing."""
        module, limit, _ = LIMITS[resource]
        again = f"{{ok, Before}} -> {module}:set_{limit}(Before)"
        self.evaluate(f"case application:get_env(rabbit, lab_{resource}) of {again}; undefined -> ok end.")

    def alarms(self) -> list[str]:
        answer = self.admin("GET", "health/checks/local-alarms", accept=ALARMED)
        found = answer.json().get("alarms", [])
        return [str(alarm["resource"]).split()[0] for alarm in found]  # *disk space*

    def meet_full_disk(self) -> Settings:
        """Its alarm looks at the disk every ten seconds at most, and would block publishers before."""
        self.evaluate("ok = rabbit_disk_monitor:set_disk_free_limit(0).")
        return {"disk_free_limit": 0}

    def disk_is_full(self) -> bool:
        """Have the server itself write a file that is longer than a block has room for."""
        file = f"{self.profile.service.data}/lab-probe"
        write = f'file:write_file("{file}", binary:copy(<<0>>, {PROBE_BYTES}))'
        if self.agrees(f"{{error, enospc}} = {write}."):
            return True
        if self.agrees(f'ok = {write}, ok = file:delete("{file}").'):
            return False
        raise BrokerSilent("RabbitMQ does not say whether it can write to its disk", "run it again")

    def open(self, number: int) -> Namespace:
        name = f"trial-{number}"
        self.admin("PUT", f"vhosts/{name}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.admin("PUT", f"permissions/{name}/{USER}", everything)
        return VirtualHost(self, name)


class VirtualHost(Namespace):
    """One virtual host of a server."""

    def __init__(self, broker: RabbitMQ, name: str) -> None:
        self.url = f"amqp://{USER}:{broker.password}@{ALIAS}:5672/{name}"
        self._broker = broker
        self._name = name
        self._keeps_dead_letters = False
        self._rules: dict[str, str | int] = {}

    def depth(self) -> Depth:
        with self._broker.channel(self._name) as channel:
            try:
                frame = channel.queue_declare(QUEUE, passive=True)
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code == NOT_FOUND:
                    return Depth(ready=0, unacked=0, consumers=0)
                raise
        ready, consumers = frame.method.message_count, frame.method.consumer_count
        if not ready and not consumers:
            self._doubt_nothing()
        return Depth(ready, self._unacked(), consumers)

    def _doubt_nothing(self) -> None:
        """A quorum queue that does not answer within 250 ms is said to be empty, without consumers.

        So it is asked again in a way that fails (RabbitMQ 4.0.5 ``rabbit_quorum_queue.erl``: stat/2).
        """
        if self._queue().get("type") == "quorum" and not self._quorum_says("{0, 0}", "query_stat"):
            raise BrokerSilent("the quorum queue did not answer in time", "")

    def _queue(self) -> Mapping[str, Any]:
        """What the management interface says of the queue, nothing when there is none."""
        totals = "disable_stats=true&enable_queue_totals=true"
        answer = self._broker.admin("GET", f"queues/{self._name}/{QUEUE}?{totals}")
        return {} if answer.status_code == NOT_FOUND else dict(answer.json())

    def _unacked(self) -> int | None:
        """How many messages are out with consumers, where the management interface says so at once.

        Servers before 3.12 say nothing, and of a quorum queue any says what was so at its last tick, up
        to 5 s ago (seen with RabbitMQ 4.0.5; ``rabbit_quorum_queue.erl``: handle_tick).
        """
        queue = self._queue()
        found = queue.get("messages_unacknowledged") if queue else 0
        return None if found is None or queue.get("type") == "quorum" else int(found)

    def has_unacked(self, count: int) -> bool:
        if (known := self._unacked()) is not None:
            return known == count
        if self._queue().get("type") == "quorum":
            return self._quorum_says(str(count), "query_messages_checked_out")
        return self._broker.agrees(
            f'Name = rabbit_misc:r(<<"{self._name}">>, queue, <<"{QUEUE}">>), '
            "{ok, Queue} = rabbit_amqqueue:lookup(Name), "
            f"[{{_, {count}}}] = rabbit_amqqueue:info(Queue, [messages_unacknowledged])."
        )

    def _quorum_says(self, answer: str, query: str) -> bool:
        """Whether the leader, after all that it was told before, answers this."""
        asked = f"ra:consistent_query({self._member()}, fun rabbit_fifo:{query}/1)"
        return self._broker.agrees(f"{{ok, {answer}, _}} = {asked}.")

    def _member(self) -> str:
        """The name of the only member of a quorum queue."""
        return f"{{'{self._name}_{QUEUE}', node()}}"

    def backlog(self, still: Callable[[], None]) -> Backlog:
        ready = self._ready_ids()
        still()
        self._await_no_consumer()
        everything = self._ready_ids()
        unacked = Counter(everything) - Counter(ready)
        return Backlog(
            ready=tuple(sorted(ready)),
            unacked=tuple(sorted(unacked.elements())),
            dead=tuple(sorted(self.dead_letters())),
        )

    def _await_no_consumer(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.depth().consumers:
            if time.monotonic() > deadline:
                raise DeadlineExpired("RabbitMQ still counts a consumer that is dead", "run it again")
            time.sleep(POLL_SECONDS)

    def _ready_ids(self) -> list[str]:
        return self._ids(QUEUE) if self.has_queue() else []

    def dead_letters(self) -> list[str]:
        return self._ids(DEAD_LETTERS) if self._keeps_dead_letters else []

    def _ids(self, queue: str) -> list[str]:
        """Take every message without acknowledging: closing the channel gives them all back."""
        ids: list[str] = []
        with self._broker.channel(self._name) as channel:
            while True:
                method, properties, _ = channel.basic_get(queue)
                if method is None:
                    return ids
                ids.append(str((properties.headers or {}).get("id")))

    def close_connections(self) -> int:
        """As ``rabbitmqctl`` does; the management interface knows of them after seconds."""
        before = self.depth().consumers or 0
        close = 'rabbit_networking:close_connection(Pid, "closed by the lab")'
        ours = f'[{{pid, Pid}}, {{vhost, <<"{self._name}">>}}]'
        all_of_them = "rabbit_networking:connection_info_all([pid, vhost])"
        self._broker.evaluate(f"[{close} || {ours} <- {all_of_them}].")
        return before

    def has_queue(self) -> bool:
        """Asked over HTTP: to declare a queue passively is to use it, which puts off its expiry."""
        answer = self._broker.admin("GET", f"queues/{self._name}/{QUEUE}?disable_stats=true")
        return answer.status_code != NOT_FOUND

    def has_blocked(self, count: int) -> bool:
        """Each connection is asked: the management interface would know seconds later."""
        blocked = f'[{{vhost, <<"{self._name}">>}}, {{state, blocked}}]'
        all_of_them = "rabbit_networking:connection_info_all([vhost, state])"
        return self._broker.agrees(f"{count} = length([1 || I <- {all_of_them}, I =:= {blocked}]).")

    def remember_queues(self) -> None:
        """Quorum queues are written down half a second late: Ra's table of names is a DETS file.

        Seen with RabbitMQ 4.0.5: ``rabbit_quorum_queue`` starts a member that it does not find there
        (*name_not_registered*) as a new one, which never elects itself.
        """
        if self._queue().get("type") == "quorum":  # only they are in that table
            self._broker.evaluate("ok = dets:sync(ra_directory_reverse).")

    def is_given_up(self) -> bool:
        """Whether Ra has stopped, and with it every quorum queue: none of its systems is left.

        Nothing starts it again while the server runs (https://github.com/rabbitmq/ra/issues/585).
        """
        return self._broker.agrees("[] = supervisor:which_children(ra_systems_sup).")

    def delete_leaderless_queue(self) -> None:
        """Its only member is one that was started anew: it follows nobody, in the first term of all."""
        self._broker.evaluate(f"#{{state := follower, term := 0}} = ra:key_metrics({self._member()}).")
        self._broker.control("delete_queue", QUEUE, "--vhost", self._name)

    def limit_deliveries(self, times: int) -> None:
        definition = {"delivery-limit": times}
        policy = {"pattern": ".*", "definition": definition, "apply-to": "queues"}
        self._broker.admin("PUT", f"policies/{self._name}/delivery-limit", policy)

    def limit_unacknowledged(self, seconds: float, look_every: float) -> None:
        """For channels opened later: a channel reads its limit when it opens, the tick before each tick.

        RabbitMQ 4.0.5 ``rabbit_channel.erl``: init, init_tick_timer. It holds for the whole server.
        """
        wanted = {"consumer_timeout": seconds, "channel_tick_interval": look_every}
        calls = (f"application:set_env(rabbit, {name}, {value * 1000:.0f})" for name, value in wanted.items())
        self._broker.evaluate(f"{', '.join(calls)}.")

    def keep_dead_letters(self) -> None:
        self._broker.admin("PUT", f"queues/{self._name}/{DEAD_LETTERS}", {"durable": True})
        self._rule({"dead-letter-exchange": "", "dead-letter-routing-key": DEAD_LETTERS})
        self._keeps_dead_letters = True

    def limit_length(self, tasks: int, overflow: str) -> None:
        self._rule({"max-length": tasks, "overflow": overflow})

    def expire_tasks(self, milliseconds: int) -> None:
        self._rule({"message-ttl": milliseconds})

    def expire_unused(self, milliseconds: int) -> None:
        self._rule({"expires": milliseconds})

    def _rule(self, definition: Mapping[str, str | int]) -> None:
        """By a policy, so that the queue keeps the arguments that Celery declares it with.

        One for all rules: of several policies that match a queue RabbitMQ applies one.
        """
        self._rules.update(definition)
        policy = {"pattern": f"^{QUEUE}$", "definition": self._rules, "apply-to": "queues"}
        self._broker.admin("PUT", f"policies/{self._name}/rules", policy)

    def close(self) -> None:
        try:
            self._broker.admin("DELETE", f"vhosts/{self._name}")
        except BrokerSilent:
            return  # the broker itself is being removed, or was the victim


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (pika.exceptions.AMQPError, requests.RequestException, OSError) as error:
        raise BrokerSilent(f"RabbitMQ does not answer: {error!r}") from error
