-- What is there before the connector's first snapshot. Slots from 1,000 on are left to the drill.
insert into clinic.rooms (code, floor)
select 'room-' || i, i % 3 from generate_series(1, 8) i;

insert into clinic.visits (room, slot, patient, state, fee, chart, due)
select 'room-' || (1 + i % 8),
       i,
       'patient-' || i % 90,
       (array['booked', 'seen', 'missed'])[1 + i % 3]::clinic.visit_state,
       40 + i % 7 * 12.5,
       jsonb_build_object('complaint', 'no. ' || i, 'vitals', jsonb_build_array(i % 40 + 60, 36.6)),
       date '2026-01-01' + i % 365
from generate_series(1, 600) i;

insert into clinic.payments (patient, amount, reference)
select 'patient-' || i % 90, 40 + i % 7 * 12.5, null from generate_series(1, 200) i;
