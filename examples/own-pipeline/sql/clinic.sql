-- A clinic's appointments: a schema that cdc-drill knows nothing of, outside `public`.
create schema clinic;

create type clinic.visit_state as enum ('booked', 'seen', 'missed');

create table clinic.rooms (
    code     text primary key,
    floor    smallint not null,
    bookings bigint not null default 0
);

-- The key has two columns, of two types.
create table clinic.visits (
    room    text not null references clinic.rooms (code),
    slot    integer not null,
    patient text not null,
    state   clinic.visit_state not null default 'booked',
    fee     numeric(10, 2) not null,
    chart   jsonb not null default '{}',
    due     date not null,
    primary key (room, slot)
);

-- Without a key: its rows can only be named as a whole.
create table clinic.payments (
    patient   text not null,
    amount    numeric(10, 2) not null,
    reference text
);
alter table clinic.payments replica identity full;
