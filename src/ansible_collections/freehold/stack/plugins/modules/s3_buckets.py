"""Module: buckets of an object storage with the S3 API, and the days after which their objects are removed."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.freehold.stack.plugins.module_utils import pending

try:
    import minio  # type: ignore[import-not-found, unused-ignore]
    import urllib3
    from minio.commonconfig import ENABLED, Filter  # type: ignore[import-not-found, unused-ignore]
    from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    minio = None

DOCUMENTATION = r"""
module: s3_buckets
short_description: Makes buckets and their rules
description:
  - Makes the buckets that are missing, and one rule per bucket that removes objects after some days.
  - Rules of others in a bucket are kept. Nothing is ever removed but Freehold's own rule.
  - Runs with a Python that has the package C(minio), such as the one of the role C(seaweedfs).
options:
  endpoint: {description: Address and port of the S3 API., type: str, required: true}
  access_key: {description: Identifier of an administrator's key., type: str, required: true}
  secret_key: {description: The key., type: str, required: true}
  buckets:
    description: The buckets.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      expire_days: {description: "Days after which objects are removed, or nothing.", type: int}
      owner_service: {description: Not used here., type: str}
      access_key: {description: Not used here., type: str}
      secret_key: {description: Not used here., type: str}
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: Lists what is made.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Make the bucket of Langfuse's events
  freehold.stack.s3_buckets:
    endpoint: 10.20.0.35:8333
    access_key: "{{ lookup('freehold.stack.secret', 'seaweedfs.admin_access_key') }}"
    secret_key: "{{ lookup('freehold.stack.secret', 'seaweedfs.admin_secret_key') }}"
    buckets:
      - name: langfuse-events
        expire_days: 365
  vars:
    ansible_python_interpreter: /opt/seaweedfs/bin/python
"""

RETURN = r"""
done:
  description: What was made, in words.
  returned: always
  type: list
  elements: str
"""

_RULE = "freehold-retention"


def _apply(module: AnsibleModule, client: Any) -> list[str]:
    done: list[str] = []

    def make(words: str) -> bool:
        done.append(words)
        if not module.check_mode:
            pending.add(pending.FOLDER, "seaweedfs", [])
        return not module.check_mode

    known = {bucket.name for bucket in client.list_buckets()}
    for bucket in module.params["buckets"]:
        name, days = bucket["name"], bucket["expire_days"]
        if name not in known and make(f"bucket {name}"):
            client.make_bucket(name)
        rules = _rules(client, name) if name in known else []
        own = next((rule for rule in rules if rule.rule_id == _RULE), None)
        others = [rule for rule in rules if rule.rule_id != _RULE]
        found = own.expiration.days if own and own.status == ENABLED and own.expiration else None
        if found == days and (days is not None or own is None):
            continue
        if days is not None and make(f"{name}: objects are removed after {days} days"):
            rule = Rule(ENABLED, Filter(prefix=""), rule_id=_RULE, expiration=Expiration(days=days))
            client.set_bucket_lifecycle(name, LifecycleConfig([*others, rule]))
        elif days is None and make(f"{name}: objects are kept"):
            if others:
                client.set_bucket_lifecycle(name, LifecycleConfig(others))
            else:
                client.delete_bucket_lifecycle(name)
    return done


def _rules(client: Any, name: str) -> list[Any]:
    found = client.get_bucket_lifecycle(name)
    return list(found.rules) if found else []


def main() -> None:
    """Hold the wanted buckets and rules against those of the server and make what is missing."""
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            "access_key": {"type": "str", "required": True, "no_log": False},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "buckets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "expire_days": {"type": "int"},
                    "owner_service": {"type": "str"},
                    "access_key": {"type": "str", "no_log": False},
                    "secret_key": {"type": "str", "no_log": True},
                },
            },
        },
        supports_check_mode=True,
    )
    if minio is None:
        module.fail_json(msg=missing_required_lib("minio"))
    client = minio.Minio(
        module.params["endpoint"],
        access_key=module.params["access_key"],
        secret_key=module.params["secret_key"],
        secure=False,
        region="us-east-1",
        http_client=urllib3.PoolManager(timeout=30, retries=urllib3.Retry(3, backoff_factor=1)),
    )
    try:
        done = _apply(module, client)
    except (minio.error.MinioException, urllib3.exceptions.HTTPError) as error:
        module.fail_json(msg=f"The object storage at {module.params['endpoint']} refused: {error}")
    after = "".join(f"{line}\n" for line in done)
    module.exit_json(changed=bool(done), done=done, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
