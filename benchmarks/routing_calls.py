"""Runs on the router's host, with Python's standard library alone: sends conversations turn by turn and says what became of each.

Standard input: one JSON object with ``port``, ``host``, ``path``, ``workers`` and ``conversations``, each a list of calls
(``headers``, ``body``) that follow one another. Standard output: one JSON list for each conversation, in order, of
``[status, seconds, headers]``.
"""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ASKED = json.load(sys.stdin)


def call(one):
    connection = http.client.HTTPConnection(ASKED["host"], ASKED["port"], timeout=300)
    headers = {"Content-Type": "application/json", **one["headers"]}
    start = time.perf_counter()
    connection.request("POST", ASKED["path"], json.dumps(one["body"]), headers)
    answer = connection.getresponse()
    answer.read()
    seconds = time.perf_counter() - start
    connection.close()
    told = {name[11:]: value for name, value in answer.getheaders() if name.startswith("x-freehold-")}
    return [answer.status, round(seconds, 5), told]


def converse(calls):
    return [call(one) for one in calls]


with ThreadPoolExecutor(ASKED["workers"]) as pool:
    for told in pool.map(converse, ASKED["conversations"]):
        sys.stdout.write(json.dumps(told) + "\n")
