"""Cases in which most teams mend the wrong layer, played through the whole product."""
