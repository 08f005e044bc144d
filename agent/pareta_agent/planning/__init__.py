"""Planning: selects variant, layout, devices and limits of each endpoint. Pure, except for the support probe."""
