"""Module: how long Langfuse keeps traces, by rules of its tables in ClickHouse."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import api, pending

DOCUMENTATION = r"""
module: langfuse_retention
short_description: Says how long Langfuse keeps traces
description:
  - Gives those of Langfuse's tables in ClickHouse that hold what people wrote a rule (C(TTL)) by which rows are removed some days
    after they happened. The open-source edition of Langfuse has no retention of its own.
  - ClickHouse applies a new rule to old rows by itself, in the background.
options:
  url: {description: Address of ClickHouse's HTTP interface., type: str, required: true}
  user: {description: User., type: str, required: true}
  password: {description: The user's password., type: str, required: true}
  database: {description: Database of Langfuse., type: str, required: true}
  days: {description: "Days; C(0) keeps everything.", type: int, required: true}
attributes:
  check_mode: {support: full, description: Says which rules would change.}
  diff_mode: {support: full, description: Shows the rules.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Keep traces for a year
  freehold.stack.langfuse_retention:
    url: http://10.20.0.30:8123
    user: langfuse
    password: "{{ lookup('freehold.stack.secret', 'langfuse.clickhouse_password') }}"
    database: langfuse
    days: 365
"""

RETURN = r"""
tables:
  description: Tables whose rule changed.
  returned: always
  type: list
  elements: str
"""

TABLES = {
    "events_full": "start_time",
    "events_core": "start_time",
    "observations": "start_time",
    "traces": "timestamp",
    "scores": "timestamp",
    "dataset_run_items_rmt": "created_at",
    "blob_storage_file_log": "created_at",
}
"""Tables that hold what people wrote, or say where it lies, with the column of the moment
(C(packages/shared/clickhouse/migrations) of Langfuse 4). Those that an installation does not have are passed over."""

_RULE = re.compile(r"\bTTL toDateTime\((\w+)\) \+ toIntervalDay\((\d+)\)")


class _ClickHouse:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query."""
        params = self.module.params
        asked = urllib.parse.urlencode({"database": params["database"], "default_format": "JSONEachRow"})
        headers = {"X-ClickHouse-User": params["user"], "X-ClickHouse-Key": params["password"]}
        answer = api.ask("POST", f"{params['url']}/?{asked}", sql.encode(), headers, timeout=120)
        return [json.loads(line) for line in answer.content.decode().splitlines() if line]


def rule(definition: str) -> tuple[str, int] | None:
    """Column and days of the rule in a table's definition, as ClickHouse writes it."""
    found = _RULE.search(definition)
    return (found[1], int(found[2])) if found else None


def _apply(server: _ClickHouse) -> tuple[list[str], list[str], list[str]]:
    days = int(server.module.params["days"])
    names = ", ".join(f"'{name}'" for name in TABLES)
    rows = server.ask(
        "SELECT name, create_table_query AS definition FROM system.tables"  # noqa: S608
        f" WHERE database = currentDatabase() AND name IN ({names}) ORDER BY name"
    )
    changed, before, after = [], [], []
    for row in rows:
        name, found = row["name"], rule(row["definition"])
        wanted = (TABLES[name], days) if days else None
        before.append(f"{name}: {f'{found[1]} days after {found[0]}' if found else 'for ever'}")
        after.append(f"{name}: {f'{days} days after {wanted[0]}' if wanted else 'for ever'}")
        if found == wanted:
            continue
        changed.append(name)
        if server.module.check_mode:
            continue
        pending.add(pending.FOLDER, "langfuse", [])
        if wanted:
            server.ask(f"ALTER TABLE {name} MODIFY TTL toDateTime({wanted[0]}) + INTERVAL {days} DAY")
        else:
            server.ask(f"ALTER TABLE {name} REMOVE TTL")
    return changed, before, after


def main() -> None:
    """Hold the rules of the tables against the wanted ones and change what differs."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "database": {"type": "str", "required": True},
            "days": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    changed: list[str] = []
    before: list[str] = []
    after: list[str] = []
    try:
        changed, before, after = _apply(_ClickHouse(module))
    except (OSError, api.RefusedError) as error:
        if not module.check_mode:
            module.fail_json(
                msg=f"ClickHouse at {module.params['url']} refused the retention of Langfuse: {error}"
            )
        # On a new host, an earlier task would have made the tables.
        changed = list(TABLES) if module.params["days"] else []
    diff = {
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }
    module.exit_json(changed=bool(changed), tables=changed, diff=diff)


if __name__ == "__main__":
    main()
