"""The composition root: makes every room, joins them, runs them, and takes them down in the right order.

It holds no rule of its own. Up: port, records, front, engines' remains, plane, engines. Down: readiness, admitted
requests, engines, the last records, the port.
"""
