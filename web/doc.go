// Package web is the HTTP server for operators. It shows and changes nothing: every path answers GET and HEAD alone.
//
//	/         a page that shows the cluster as it is now and what changed when; it follows by itself
//	/status   the same picture as JSON, a cluster.View
//	/events   the same again whenever it changes, as server-sent events: what the page reads
//	/metrics  for Prometheus, where there is a handler for them
//	/healthz  200 while the process can decide, 503 and the reason where it cannot
//
// No route depends on it. Where an address cannot be listened on, the log says so and it is tried again; who reads slowly is cut
// off; connections and followers are bounded, so that they never take the file descriptors that the checks need.
package web
