#!/usr/bin/python3
"""A stand-in for the Python tool that nodes run until they are migrated, as a process of ExaBGP.

It announces its own VIP with MED 100 while the check succeeds and the maintenance node is absent, and claims it with an
empty ephemeral node. A VIP of another node it announces with MED 200 while nobody claims it. It knows nothing of status
records, of neighbors or of acknowledgements.
"""

import argparse
import os
import subprocess
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError

parser = argparse.ArgumentParser()
parser.add_argument("--own", required=True)
parser.add_argument("--other", action="append", default=[])
parser.add_argument("--check", required=True)
parser.add_argument("--claims", required=True)
parser.add_argument("--maintenance", required=True)
parser.add_argument("--zk", required=True)
args = parser.parse_args()

announced = {}  # by VIP; one that is missing was not said yet


def say(vip, med):
    """Announce a VIP with a MED, or withdraw it where that is None."""
    if vip in announced and announced[vip] == med:
        return
    if med is None:
        print(f"withdraw route {vip}/32 next-hop self", flush=True)
    else:
        print(f"announce route {vip}/32 next-hop self med {med}", flush=True)
    announced[vip] = med


def end_with_exabgp():
    """Swallow what ExaBGP says, which would fill the pipe, and end when it does."""
    for _ in sys.stdin:
        pass
    zk.stop()
    os._exit(0)


def healthy():
    return subprocess.run(["/bin/sh", "-c", args.check], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode == 0


def hold_claim(wanted):
    path = args.claims + "/" + args.own
    stat = zk.exists(path)
    mine = stat is not None and zk.client_id is not None and stat.owner_session_id == zk.client_id[0]
    if wanted and stat is None:
        try:
            zk.create(path, ephemeral=True, makepath=True)
        except NodeExistsError:
            pass  # somebody was faster; looked at again next time
    elif mine and not wanted:
        try:
            zk.delete(path)
        except NoNodeError:
            pass


def step():
    serviceable = healthy() and zk.exists(args.maintenance) is None
    if not serviceable:
        for vip in [args.own] + args.other:
            say(vip, None)
        hold_claim(False)
        return
    say(args.own, 100)
    hold_claim(True)
    for vip in args.other:
        say(vip, None if zk.exists(args.claims + "/" + vip) else 200)


zk = KazooClient(hosts=args.zk)
zk.start(timeout=60)
threading.Thread(target=end_with_exabgp, daemon=True).start()
while True:
    try:
        step()
    except KazooException as e:
        print(f"standin: {e!r}", file=sys.stderr, flush=True)
    time.sleep(0.2)
