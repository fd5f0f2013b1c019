"""Says in a few words why a worker was chosen, or what spoke for one that was not."""

from services.router.core.policies import Parts


def reason(policy: str, made_of: Parts) -> str:
    """For `accepted.pick_reason` and ExplainPick, such as "82 % of the prompt cached, 3 in flight"."""
    in_flight = f"{made_of.busy} in flight"
    match policy:
        case "round_robin":
            return f"by turns, {in_flight}"
        case "random":
            return f"by lot, {in_flight}"
        case "power_of_two":
            return f"{in_flight}, the better of two"
        case "token_aware":
            return f"first token expected in {made_of.queue_s + made_of.prefill_s:.2f} s, {in_flight}"
        case "prefix_aware":
            return f"{made_of.cached_share:.0%} of the prompt cached, {in_flight}".replace("%", " %")
        case "session":
            return f"by session, {in_flight}"
        case _:
            return in_flight
