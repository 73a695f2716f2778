"""A task charges a card, and is delivered twice: what its guard against charging twice is worth.

In production: a payment, a mail, an order at a supplier; anything that must happen once, in a task that
must not be lost. Here the charge is a row of PostgreSQL, so that a key can be committed with it. A card
provider takes no part in that transaction: give it the key, or it stands where ``key-first`` stands.
"""

from lab import Axis, Cell, Expectation, Ledger, Moment, Rig, Surprise, Worker, freeze, kill, scenario

GUARD = Axis.of("guard", "none", "check-then-act", "key", "key-first")
HOW = Axis(
    "how",
    {
        "redelivered": {"task_acks_late": True},
        "at-once": {"task_acks_late": True, "broker_heartbeat": 2},
        "killed-between": {"task_acks_late": True},
    },
)


@scenario(
    "duplicate-effect",
    asks="A task charges a card, and is delivered twice. How often is the card charged, by its guard?",
    vary=[GUARD, HOW],
    servers=["postgres-ledger"],
)
def duplicate_effect(rig: Rig) -> None:
    ledger = rig.ledger()
    how = rig.cell.params["how"]
    first = rig.worker("first", hold="finished" if how == "redelivered" else "charging")
    [target] = rig.publish("target", act="charge", about={"guard": rig.cell.params["guard"]})
    if how == "at-once":
        at_once(rig, ledger, first, first.reaches("charging", target))
    else:
        rig.inject(kill(first), first.reaches("finished" if how == "redelivered" else "charging", target))
        rig.worker("second", after_visibility_timeout=True)
    rig.settle()


def at_once(rig: Rig, ledger: Ledger, first: Worker, moment: Moment) -> None:
    """Its guard let the first run pass, and it has not charged yet, when the second run meets its guard."""
    frozen = rig.inject(freeze(first), moment)
    rig.queue.has_consumers(count=0)
    second = rig.worker("second", hold="charging", after_visibility_timeout=True)
    if rig.cell.params["guard"] == "key":
        rig.wait_for_blocked(ledger)
    elif rig.cell.params["guard"] == "key-first":
        second.says("finished", moment.task)
    else:
        second.reaches("charging", moment.task)
    rig.heal(frozen)
    first.release()
    second.release()


@duplicate_effect.expects
def expected(cell: Cell) -> Expectation:
    guard, how = cell.params["guard"], cell.params["how"]
    charges, because = CHARGES[guard, how]
    return Expectation(
        outcomes={"target": {"redelivered" if how == "killed-between" else "duplicated": 1}},
        because=because,
        source="https://www.postgresql.org/docs/17/transaction-iso.html#XACT-READ-COMMITTED; celery 5.7.0 "
        "docs userguide/tasks.rst: with acks_late a task should be idempotent",
        facts={"charges": charges},
        surprise=NEVER_CHARGED if charges == 0 else None,
    )


NO_GUARD = "nothing keeps a second run from charging a second time"
NOT_YET = "the first run died before it charged, and the second one charged"
CHARGES = {
    ("none", "redelivered"): (2, NO_GUARD),
    ("none", "at-once"): (2, NO_GUARD),
    ("none", "killed-between"): (1, NOT_YET),
    ("check-then-act", "redelivered"): (1, "the second run saw the charge that the first had committed"),
    ("check-then-act", "at-once"): (2, "both looked before either had charged, and both saw nothing"),
    ("check-then-act", "killed-between"): (1, NOT_YET),
    ("key", "redelivered"): (1, "the key was there, committed with the charge"),
    ("key", "at-once"): (1, "the second run waited for the transaction of the first, and then saw its key"),
    ("key", "killed-between"): (1, "the key went with the transaction of the first run; the second charged"),
    ("key-first", "redelivered"): (1, "the key was there, and so was the charge"),
    ("key-first", "at-once"): (
        1,
        "the second run saw the key, and left the charge to the first, which lived",
    ),
    ("key-first", "killed-between"): (0, "the second run saw the key of a charge that was never made"),
}
NEVER_CHARGED = Surprise(
    documented="commonly said: remember which tasks were begun, and running one twice does no harm",
    observed="a key that is committed before its charge turns a second charge into none: the task ends in "
    "success, and the card is never charged",
    source="a row inserted outside of a transaction is committed at once "
    "(https://www.postgresql.org/docs/17/tutorial-transactions.html)",
)
