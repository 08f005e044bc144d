"""A meter under attack: lives that end by kill -9, disks that lie, planes that misbehave, and an oracle outside."""
