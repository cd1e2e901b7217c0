-- Fills the SwiftEats schema. The same settings give the same rows, each value
-- being a hash of the seed and the number of its row:
--   PGOPTIONS='-c swifteats.orders=100000 -c swifteats.seed=1' psql -d swifteats -f data.sql
-- There is one restaurant for 500 orders (20 at least), one courier for 400 (25
-- at least) and one customer for 10 (100 at least).
begin;
set local search_path = public;
set local jit = off; -- compiling costs more than it saves here
set local work_mem = '64MB';
set local maintenance_work_mem = '64MB';

-- Checking and indexing all rows at once, at the end, is twice as fast.
alter table orders drop constraint orders_customer_id_fkey, drop constraint orders_restaurant_id_fkey;
alter table payments drop constraint payments_order_id_fkey;
alter table deliveries drop constraint deliveries_order_id_fkey, drop constraint deliveries_courier_id_fkey;
drop index orders_customer_idx, orders_restaurant_idx, orders_items_idx;

create temp table scale on commit drop as
select o as orders, greatest(o / 500, 20) as restaurants, greatest(o / 400, 25) as couriers,
       greatest(o / 10, 100) as customers, 15 as menu
  from (select coalesce(nullif(current_setting('swifteats.orders', true), ''), '10000')::int) s (o);

-- pick gives a number from 0 to n-1 for row i; what tells different uses apart.
-- id gives the key of a row. The seed is written into both as a constant, so that
-- they are immutable and the planner can inline them.
do $do$
declare
  seed constant bigint := coalesce(nullif(current_setting('swifteats.seed', true), ''), '1');
begin
  execute format($f$
    create function pg_temp.pick(what int, i bigint, n int) returns int language sql immutable as
    'select ((hashint8extended(i, what + 1000 * %s::bigint) & 2147483647) %% n)::int'$f$, seed);
  execute format($f$
    create function pg_temp.id(what text, i bigint) returns uuid language sql immutable as
    'select md5(what || ''%s/'' || i)::uuid'$f$, seed);
end $do$;

create function pg_temp.person(i bigint) returns text
language sql immutable as $$
  select (array['Ada','Amir','Bea','Chen','Dora','Emeka','Fatima','Goran','Hana','Ivan','Jun','Kofi',
                'Lena','Mateo','Nadia','Omar','Priya','Quinn','Rosa','Sven','Tariq','Uma','Viktor','Wei'])[1 + pg_temp.pick(1, i, 24)]
      || ' ' ||
         (array['Abara','Brandt','Costa','Dubois','Eriksen','Farouk','Garcia','Horvat','Ivanova','Jansen',
                'Kowalski','Lindqvist','Moreau','Nakamura','Okafor','Petrov','Rossi','Singh','Tanaka','Zhang'])[1 + pg_temp.pick(2, i, 20)]
$$;

create function pg_temp.address(i bigint) returns jsonb
language sql immutable as $$
  select jsonb_build_object(
    'street', (1 + pg_temp.pick(3, i, 240)) || ' ' ||
              (array['Maple','Station','Church','Mill','Victoria','Park','Harbour','Linden'])[1 + pg_temp.pick(4, i, 8)] || ' ' ||
              (array['Street','Road','Lane','Square'])[1 + pg_temp.pick(5, i, 4)],
    'postcode', lpad(pg_temp.pick(6, i, 100000)::text, 5, '0'),
    'location', jsonb_build_array(51.3 + pg_temp.pick(7, i, 400000) / 1e6, -0.3 + pg_temp.pick(8, i, 500000) / 1e6))
$$;

insert into restaurants (id, name, cuisine, address, opens, closes, rating, commission, logo, created_at)
select pg_temp.id('restaurant', i),
       (array['Golden','Little','Royal','Blue','Old Town','Lucky'])[1 + pg_temp.pick(10, i, 6)] || ' ' ||
       (array['Wok','Kitchen','Oven','Grill','Garden','Spoon'])[1 + pg_temp.pick(11, i, 6)] || ' No. ' || i,
       (array['italian','thai','indian','lebanese','japanese','mexican','vegan'])[1 + pg_temp.pick(12, i, 7)],
       pg_temp.address(i),
       time '09:00' + pg_temp.pick(13, i, 5) * interval '30 minutes',
       time '21:00' + pg_temp.pick(14, i, 5) * interval '30 minutes',
       case when i % 11 > 0 then (10 + pg_temp.pick(15, i, 41)) / 10.0 end,
       0.10 + pg_temp.pick(16, i, 2000) / 10000.0,
       (select string_agg(sha256(convert_to(pg_temp.id('logo', i) || '/' || k, 'UTF8')), '' order by k)
          from generate_series(1, 80 + pg_temp.pick(17, i, 80)) k),
       timestamptz '2024-06-01 08:00+00' + i * interval '97 minutes'
  from scale, generate_series(1, scale.restaurants) i;

insert into menu_items (restaurant_id, position, name, price, allergens)
select pg_temp.id('restaurant', i), p,
       (array['Classic','Spicy','Smoked','Crispy','House'])[1 + pg_temp.pick(20, i * 100 + p, 5)] || ' ' ||
       (array['Margherita','Pad Thai','Tikka','Falafel Wrap','Ramen','Caesar Salad','Cheeseburger','Sushi Set',
              'Pho','Burrito Bowl','Bao Buns','Tagine'])[1 + pg_temp.pick(21, i * 100 + p, 12)],
       (300 + pg_temp.pick(22, i * 100 + p, 2200)) / 100.0,
       (array['{}','{gluten}','{nuts,soy}','{milk}','{gluten,egg,milk}'])[1 + pg_temp.pick(23, i * 100 + p, 5)]::text[]
  from scale, generate_series(1, scale.restaurants) i, generate_series(1, scale.menu) p;

insert into couriers (id, name, phone, vehicle)
select pg_temp.id('courier', i), pg_temp.person(i + 1000000),
       '+44 7700 ' || lpad(pg_temp.pick(30, i, 1000000)::text, 6, '0'),
       (enum_range(null::vehicle))[1 + pg_temp.pick(31, i, 3)]
  from scale, generate_series(1, scale.couriers) i;

insert into customers (id, name, email, phone, address, newsletter, created_at)
select pg_temp.id('customer', i), pg_temp.person(i), 'customer' || i || '@example.com',
       '+44 7700 ' || lpad(pg_temp.pick(40, i, 1000000)::text, 6, '0'),
       pg_temp.address(i + 1000000), pg_temp.pick(41, i, 3) = 0,
       timestamptz '2024-09-01 00:00+00' + i * interval '61 seconds'
  from scale, generate_series(1, scale.customers) i;

analyze restaurants, menu_items, couriers, customers;

-- The past: one order each 19.7 seconds, all closed but the last percent.
with line as (
  select i, pg_temp.id('restaurant', 1 + pg_temp.pick(57, i, s.restaurants)) as restaurant_id,
         1 + pg_temp.pick(58, i * 10 + k, s.menu) as position, 1 + pg_temp.pick(59, i * 10 + k, 3) as quantity
    from scale s, generate_series(1, s.orders) i, generate_series(1, 4) k
   where k <= 1 + pg_temp.pick(60, i, 4)
), basket as (
  select l.i, l.restaurant_id, sum(l.quantity * m.price) as subtotal,
         jsonb_agg(jsonb_build_object('position', m.position, 'name', m.name, 'quantity', l.quantity, 'price', m.price)
                   order by m.position, l.quantity) as items
    from line l join menu_items m on m.restaurant_id = l.restaurant_id and m.position = l.position
   group by l.i, l.restaurant_id
)
insert into orders (id, number, customer_id, restaurant_id, status, items, subtotal, delivery_fee, tip, note, placed_at, updated_at)
select pg_temp.id('order', i), i,
       pg_temp.id('customer', 1 + pg_temp.pick(50, i, s.customers)), b.restaurant_id,
       case when i > s.orders - s.orders / 100 then (array['placed','paid','dispatched'])[1 + pg_temp.pick(51, i, 3)]
            when pg_temp.pick(52, i, 25) = 0 then 'cancelled' else 'delivered' end::order_status,
       b.items, b.subtotal, case when b.subtotal >= 30 then 0 else 2.49 end,
       case when pg_temp.pick(53, i, 3) = 0 then pg_temp.pick(54, i, 500) / 100.0 else 0 end,
       (array['please ring twice','leave at the door','no cutlery','extra napkins'])[1 + pg_temp.pick(55, i, 12)],
       t.placed_at, t.placed_at + pg_temp.pick(56, i, 3000) * interval '1 second'
  from scale s, basket b
 cross join lateral (select timestamptz '2025-01-01 00:00+00' + b.i * interval '19.7 seconds' as placed_at) t
 order by i;
select setval('orders_number_seq', orders) from scale;

insert into payments (order_id, method, status, amount, reference, created_at)
select id, (enum_range(null::payment_method))[1 + pg_temp.pick(70, number, 3)],
       case status when 'cancelled' then 'refunded' else 'captured' end::payment_status,
       total, 'pay_' || replace(id::text, '-', ''), placed_at + interval '20 seconds'
  from orders where status <> 'placed' order by number;

insert into deliveries (order_id, courier_id, dispatched_at, delivered_at)
select o.id, pg_temp.id('courier', 1 + pg_temp.pick(80, o.number, s.couriers)), o.placed_at + interval '9 minutes',
       case o.status when 'delivered' then o.placed_at + interval '9 minutes' + pg_temp.pick(81, o.number, 2400) * interval '1 second' end
  from scale s, orders o where o.status in ('dispatched', 'delivered') order by o.number;

update couriers c set deliveries = d.n
  from (select courier_id, count(*) as n from deliveries where delivered_at is not null group by 1) d
 where d.courier_id = c.id;

insert into courier_positions (courier_id, latitude, longitude)
select id, 51.5, -0.1 from couriers;

create index orders_customer_idx on orders (customer_id, placed_at desc);
create index orders_restaurant_idx on orders (restaurant_id, placed_at desc);
create index orders_items_idx on orders using gin (items jsonb_path_ops);
alter table orders add foreign key (customer_id) references customers, add foreign key (restaurant_id) references restaurants;
alter table payments add foreign key (order_id) references orders;
alter table deliveries add foreign key (order_id) references orders, add foreign key (courier_id) references couriers;

refresh materialized view daily_revenue;

drop function pg_temp.pick, pg_temp.id, pg_temp.person, pg_temp.address;
commit;

analyze;
