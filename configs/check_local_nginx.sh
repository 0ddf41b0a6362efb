#!/bin/sh
# The check of the service "apex": does the web server of this very host answer? It asks over loopback, so that neither
# a route nor another node's answer can make it succeed. exazk ends it after its own timeout; curl's is shorter, so that
# its message says what was wrong.
exec curl --silent --show-error --fail --max-time 0.8 --noproxy '*' --output /dev/null http://127.0.0.1/
