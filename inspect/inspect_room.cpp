namespace regauge {}
