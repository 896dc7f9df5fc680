"""Passages, in which search looks, and the functions that keep and search them: docs/adr/0026.

Processes of the version before go on beside it: triggers write the passages of what they store.
"""

# ruff: noqa: S608 - names are this file's own
from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NO_NUMBERS = sa.text("'{}'::double precision[]")

# Two letters of BCP 47 to a configuration of text search that every PostgreSQL from 15 on has.
CONFIGS = (
    "ar arabic,hy armenian,eu basque,ca catalan,da danish,nl dutch,en english,fi finnish,fr french,de german,el greek,"
    "hi hindi,hu hungarian,id indonesian,ga irish,it italian,lt lithuanian,ne nepali,no norwegian,nb norwegian,"
    "nn norwegian,pt portuguese,ro romanian,ru russian,sr serbian,es spanish,sv swedish,ta tamil,tr turkish,yi yiddish"
)
_PAIRS = " ".join(f"when '{pair.split()[0]}' then '{pair.split()[1]}'" for pair in CONFIGS.split(","))
_NAMES = ", ".join(f"'{name}'" for name in sorted({"simple", *(pair.split()[1] for pair in CONFIGS.split(","))}))

# Writing without spaces between words (and Hangul, whose particles stick to words): Thai, Lao, Myanmar, Khmer, kana,
# Han, Hangul.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)

# In a database of locale C lower() knows ASCII alone; the first collation that there is knows all letters.
FOLDED = """
do $do$
declare
    named text;
begin
    foreach named in array array['pg_c_utf8', 'und-x-icu', 'C.utf8', 'C.UTF-8', 'default'] loop
        if exists (
            select from pg_catalog.pg_collation c
            where c.collname = named and c.collnamespace = 'pg_catalog'::regnamespace
                and c.collencoding in (-1, pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding()))
        ) then
            exit;
        end if;
    end loop;
    execute pg_catalog.format($fn$
        create function echo.folded(written text) returns text
        language sql immutable strict parallel safe set search_path = '' as $$
            select pg_catalog.lower(written collate pg_catalog.%I)
        $$
    $fn$, named);
end
$do$
"""

CONFIG_OF = f"""
create function echo.search_config(language text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
    select case lower(split_part(language, '-', 1)) {_PAIRS} else 'simple' end
$$
"""

# What is looked for in a text: its words as its language has them and as they stand there, pairs of neighbouring
# characters where words have no spaces between them.
TSV_OF = f"""
create function echo.search_words(config text, written text) returns tsvector
language sql immutable strict parallel safe set search_path = '' as $$
    select to_tsvector(config::regconfig, echo.folded(written)) || to_tsvector('simple', echo.folded(written))
        || array_to_tsvector(coalesce((
            select array_agg(distinct substr(run.found[1], at, 2))
            from regexp_matches(echo.folded(written), '[{UNSPACED}]+', 'g') as run (found)
            cross join lateral generate_series(1, length(run.found[1])) as at
        ), '{{}}'))
$$
"""

# Pairs have no position, so no weight either: ts_filter drops them.
INDEX_VIDEO = """
create function echo.index_video(v echo.videos) returns void
language plpgsql security definer set search_path = '' as $$
declare
    named text := echo.search_config(v.language);
    tags text := array_to_string(v.tags, ', ');
begin
    if v.deleted_at is not null then
        delete from echo.passages where video_id = v.id;
        return;
    end if;
    insert into echo.passages as p (
        video_id, owner_id, track, number, start_s, end_s, text, config, tsv
    ) values (
        v.id, v.owner_id, '', 0, 0, 0, concat_ws(E'\\n', v.title, nullif(v.description, ''), nullif(tags, '')), named,
        setweight(echo.search_words(named, v.title), 'A') || setweight(echo.search_words(named, tags), 'B')
            || setweight(echo.search_words(named, v.description), 'C')
            || array_to_tsvector(array[named || ':' || v.owner_id])
    ) on conflict (video_id, track, number) do update set text = excluded.text, config = excluded.config,
        tsv = excluded.tsv, embedding = case when p.text = excluded.text then p.embedding end,
        embedding_space = case when p.text = excluded.text then p.embedding_space else '' end;
end
$$
"""

# A passage is some cues that are said within 15 seconds or 300 characters; the next one begins with its last cue, so
# that words on both sides of a boundary are found together. Words are what ASCII white space separates; each has its
# time: known, or in proportion to the characters before it (domain/captions.word_time).
INDEX_TRACK = r"""
create function echo.index_track(t echo.caption_tracks) returns void
language plpgsql security definer set search_path = '' as $$
declare
    named text := echo.search_config(t.language);
    cue record;
    cue_words text[]; cue_starts float8[]; known float8[]; total int; before int; word text;
    last_words text[]; last_starts float8[]; last_start float8;
    words text[] := '{}'; starts float8[] := '{}'; first_s float8; until_s float8; cues int := 0;
    fresh boolean := false; numbered int := 0;
begin
    for cue in
        select (c ->> 'start_s')::float8 as start_s, (c ->> 'end_s')::float8 as end_s, c ->> 'text' as text,
            c -> 'word_starts_s' as word_starts_s
        from jsonb_array_elements(t.cues) with ordinality as listed (c, position) order by position
    loop
        cue_words := regexp_split_to_array(btrim(left(cue.text, 4000), E' \t\n\r\f\x0b'), E'[ \t\n\r\f\x0b]+');
        if cue_words is null or array_to_string(cue_words, '') = '' then
            continue;
        end if;
        known := array(select s::float8 from jsonb_array_elements_text(coalesce(cue.word_starts_s, '[]')) as s);
        if cardinality(known) = cardinality(cue_words) then
            cue_starts := known;
        else
            cue_starts := '{}'; before := 0; total := length(array_to_string(cue_words, ' ')) + 1;
            foreach word in array cue_words loop
                cue_starts := cue_starts || (cue.start_s + (cue.end_s - cue.start_s) * before / total);
                before := before + length(word) + 1;
            end loop;
        end if;
        if cues > 0 and (
            cue.end_s - first_s > 15 or length(array_to_string(words || cue_words, ' ')) > 300
        ) then
            if fresh then
                perform echo.put_passage(
                    t.video_id, t.owner_id, t.name, numbered, first_s, until_s, words, starts, named
                );
                numbered := numbered + 1;
            end if;
            if cue.end_s - last_start > 15 or length(array_to_string(last_words || cue_words, ' ')) > 300 then
                words := '{}'; starts := '{}'; cues := 0;
            else
                words := last_words; starts := last_starts; first_s := last_start; cues := 1;
            end if;
        end if;
        if cues = 0 then
            first_s := cue.start_s;
        end if;
        words := words || cue_words; starts := starts || cue_starts; until_s := cue.end_s; cues := cues + 1;
        fresh := true;
        last_words := cue_words; last_starts := cue_starts; last_start := cue.start_s;
    end loop;
    if cues > 0 then
        perform echo.put_passage(t.video_id, t.owner_id, t.name, numbered, first_s, until_s, words, starts, named);
        numbered := numbered + 1;
    end if;
    delete from echo.passages where video_id = t.video_id and track = t.name and number >= numbered;
end
$$
"""

PUT_PASSAGE = """
create function echo.put_passage(
    of_video uuid, of_owner uuid, of_track text, numbered integer, from_s float8, until_s float8, words text[],
    starts float8[], named text
) returns void language sql security definer set search_path = '' as $$
    insert into echo.passages as p (
        video_id, owner_id, track, number, start_s, end_s, text, word_starts_s, config, tsv
    ) select of_video, of_owner, of_track, numbered, from_s, until_s, written, starts, named,
        setweight(echo.search_words(named, written), 'D') || array_to_tsvector(array[named || ':' || of_owner])
    from array_to_string(words, ' ') as written
    on conflict (video_id, track, number) do update set start_s = excluded.start_s, end_s = excluded.end_s,
        text = excluded.text, word_starts_s = excluded.word_starts_s, config = excluded.config, tsv = excluded.tsv,
        embedding = case when p.text = excluded.text then p.embedding end,
        embedding_space = case when p.text = excluded.text then p.embedding_space else '' end
$$
"""

VIDEO_WRITTEN = """
create function echo.video_written() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform echo.index_video(new);
    return null;
end
$$
"""
TRACK_WRITTEN = """
create function echo.track_written() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    if tg_op = 'DELETE' then
        delete from echo.passages where video_id = old.video_id and track = old.name;
    else
        perform echo.index_track(new);
    end if;
    return null;
end
$$
"""
TRIGGERS = (
    "create trigger search_added after insert on echo.videos for each row execute function echo.video_written()",
    "create trigger search_changed after update on echo.videos for each row when ("
    "(old.title, old.description, old.tags, old.language, old.deleted_at) is distinct from "
    "(new.title, new.description, new.tags, new.language, new.deleted_at)) execute function echo.video_written()",
    "create trigger search_added after insert on echo.caption_tracks for each row "
    "execute function echo.track_written()",
    "create trigger search_changed after update on echo.caption_tracks for each row when ("
    "(old.cues, old.language) is distinct from (new.cues, new.language)) execute function echo.track_written()",
    "create trigger search_removed after delete on echo.caption_tracks for each row "
    "execute function echo.track_written()",
)

# ``asked``: alternatives, each a text in the syntax of web searches; ``pairs``: for each a tsquery of what has no
# spaces between its words, or ''.
QUERY = """
create function echo.search_query(config text, asked text[], pairs text[]) returns tsquery
language sql immutable strict parallel safe set search_path = '' as $$
    select coalesce(string_agg('(' || q::text || ')', ' | '), '')::tsquery
    from (
        select (websearch_to_tsquery(config::regconfig, echo.folded(asked[n]))
            || websearch_to_tsquery('simple', echo.folded(asked[n]))) && pairs[n]::tsquery as q
        from generate_subscripts(asked, 1) as n
    ) as alternatives
    where numnode(q) > 0
$$
"""

# Row level security keeps @@ from using an index for users (it might tell of rows in an error), so that this looks
# with its own eyes, for the caller's alone, and tells ids. What hangs on them is read by search() with the caller's.
MATCHES = f"""
create function echo.search_matches(asked text[], pairs text[], unwanted text[], unwanted_pairs text[], most integer)
returns table (video_id uuid, class integer)
language plpgsql stable security definer set search_path = '' as $$
declare
    mine text := nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
    configs text[];
    wanted tsquery; refused tsquery;
begin
    select array_agg(c) into configs from unnest(array[{_NAMES}]) as c where exists (
        select from echo.passages p where p.tsv @@ quote_literal(c || ':' || mine)::tsquery
    );
    -- One query over all of the languages that this owner has.
    select string_agg(format('(%L & (%s))', c || ':' || mine, q), ' | ')::tsquery into wanted
    from unnest(configs) as c cross join lateral (select echo.search_query(c, asked, pairs)::text as q) as said
    where q <> '';
    select string_agg(format('(%L & (%s))', c || ':' || mine, q), ' | ')::tsquery into refused
    from unnest(configs) as c
    cross join lateral (select echo.search_query(c, unwanted, unwanted_pairs)::text as q) as said where q <> '';
    if wanted is null then
        return;
    end if;
    return query execute $q$
        select m.video_id, max(case
            when m.track <> '' then 1
            when ts_filter(m.tsv, '{{a}}') @@ s.q then 4
            when ts_filter(m.tsv, '{{a,b}}') @@ s.q then 3
            else 2
        end)
        from (
            (select p.video_id, p.track, p.tsv, p.config from echo.passages p
            where p.tsv @@ $1 and p.owner_id = $2 and p.track = '' order by p.video_id desc limit $5)
            union all
            (select p.video_id, p.track, null, p.config from echo.passages p
            where p.tsv @@ $1 and p.owner_id = $2 and p.track <> '' order by p.video_id desc limit $5)
        ) as m
        join (
            select c, echo.search_query(c, $3, $4) as q from unnest($6) as c
        ) as s on s.c = m.config
        where $7 is null or not exists (
            select from echo.passages n where n.video_id = m.video_id and n.tsv @@ $7
        )
        group by m.video_id
    $q$ using wanted, mine::uuid, asked, pairs, most, configs, refused;
end
$$
"""

SEARCH = """
create function echo.search(
    claims text, asked text[], pairs text[], unwanted text[], unwanted_pairs text[], vector real[], space text,
    known_at uuid, after_score double precision, after_id uuid, newest integer, most integer
) returns text language plpgsql set search_path = '' as $$
begin
    perform set_config('role', 'authenticated', true), set_config('request.jwt.claims', claims, true);
    return (
        with matches as (
            select m.video_id, m.class, row_number() over (order by m.class desc, m.video_id desc) as place
            from echo.search_matches(asked, pairs, unwanted, unwanted_pairs, most) as m
            where m.video_id <= known_at
        ), near as (
            select n.video_id, n.passages, row_number() over (order by n.nearest desc, n.video_id desc) as place
            from (
                select s.video_id, max(s.likeness) as nearest,
                    json_agg(json_build_object('track', s.track, 'number', s.number) order by s.likeness desc)
                        filter (where s.track <> '') as passages
                from echo.search_near(vector, space, known_at) as s
                where vector is not null
                group by s.video_id
            ) as n
        ), scored as (
            select video_id, m.class, near.passages, near.video_id is not null as meant,
                case when vector is null then m.class / 4.0::float8
                -- Fused by reciprocal rank: 60 as in Cormack, Clarke and Buettcher, SIGIR 2009.
                else coalesce(1 / (60.0::float8 + m.place), 0) + coalesce(1 / (60.0::float8 + near.place), 0) end
                    as score
            from matches m full join near using (video_id)
        ), page as (
            select v.*, s.score, s.class, s.passages, s.meant
            from scored s join echo.videos v on v.id = s.video_id
            where v.deleted_at is null and (after_score is null or (s.score, v.id) < (after_score, after_id))
            order by s.score desc, v.id desc
            limit newest
        )
        select coalesce(json_agg(json_build_object(
            'id', page.id, 'title', page.title, 'status', page.status, 'created_at', page.created_at,
            'updated_at', page.updated_at, 'duration_s', page.duration_s, 'score', page.score, 'meant', page.meant,
            'has_poster', exists (select from echo.artefacts a where a.video_id = page.id and a.kind = 'poster'),
            'matched_fields', case when page.class > 1 then own.fields else '{}' end,
            'title_marked', case when page.class > 1 then own.title end,
            'passages', coalesce(said.passages, '[]')
        ) order by page.score desc, page.id desc), '[]')
        from page
        left join lateral (
            select echo.marked(o.config, page.title, any_word) as title, array_remove(array[
                case when ts_filter(o.tsv, '{a}') @@ any_word then 'title' end,
                case when ts_filter(o.tsv, '{b}') @@ any_word then 'tags' end,
                case when ts_filter(o.tsv, '{c}') @@ any_word then 'description' end
            ], null) as fields
            from echo.passages o
            cross join lateral (select echo.any_of(echo.search_query(o.config, asked, pairs)) as any_word) as q
            where o.video_id = page.id and o.track = '' and page.class > 1
        ) as own on true
        left join lateral (
            select json_agg(json_build_object(
                'track', h.track, 'start_s', h.start_s, 'end_s', h.end_s, 'text', h.text, 'words', h.word_starts_s,
                'marked', case when h.matches then echo.marked(h.config, h.text, h.q) end
            ) order by h.matches desc, h.start_s, h.track) as passages
            from (
                select p.*, q.q, p.tsv @@ q.q as matches
                from echo.passages p
                cross join lateral (select echo.search_query(p.config, asked, pairs) as q) as q
                where p.video_id = page.id and p.track <> '' and (p.tsv @@ q.q or (p.track, p.number) in (
                    select (j ->> 'track'), (j ->> 'number')::int from json_array_elements(page.passages) as j limit 3
                ))
                order by matches desc, p.start_s, p.track
                limit 10
            ) as h
        ) as said on true
    );
end
$$
"""

# The words of a text that a query has, between U+E000 and U+E001, which nothing else is for. The text is folded, as
# what is looked for is: the caller carries the marks over to the text as it stands.
MARKED = r"""
create function echo.marked(config text, written text, wanted tsquery) returns text
language sql stable strict parallel safe set search_path = '' as $$
    select case when strpos(marked, U&'\E000') > 0 then marked
        else ts_headline('simple', plain, wanted, options) end
    from (
        select ts_headline(config::regconfig, plain, wanted, options) as marked, plain, options
        from (select translate(echo.folded(written), U&'\E000\E001', '') as plain,
            U&'HighlightAll=true, StartSel=\E000, StopSel=\E001' as options) as given
    ) as once
$$
"""
ANY_OF = """
create function echo.any_of(wanted tsquery) returns tsquery
language sql immutable strict parallel safe set search_path = '' as $$
    select regexp_replace(wanted::text, ' (&|<->|<[0-9]+>) ', ' | ', 'g')::tsquery
$$
"""

# An operator without the extension's rights is not Echo's to demand: without it, distances are computed in plain SQL.
VECTOR = """
do $do$ begin
    create extension if not exists vector;
exception when others then
    raise notice 'The extension vector is not available (%): search by meaning is slower without it.', sqlerrm;
end $do$
"""

# Unit vectors: the inner product is the likeness, 1 at most. pgvector is looked for at every call, so that it can be
# added later. What is compared is bounded: the newest passages of the caller.
NEAR = """
create function echo.search_near(vector real[], space text, known_at uuid)
returns table (video_id uuid, track text, number integer, likeness double precision)
language plpgsql stable set search_path = '' as $$
declare
    home text := (
        select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'
    );
    likeness text := '(select sum(x * y) from unnest(c.embedding, $1) as pair (x, y))';
    newest integer := 4000;
begin
    if vector is null then
        return;
    end if;
    if home is not null and has_schema_privilege(home, 'usage') then
        likeness := format('-(c.embedding::%1$I.vector operator(%1$I.<#>) $1::%1$I.vector)', home);
        newest := 20000;
    end if;
    return query execute format($q$
        select * from (
            select c.video_id, c.track, c.number, (%s)::float8 as likeness from (
                select * from echo.passages p
                where p.embedding_space = $2 and p.owner_id = $5 and p.video_id <= $3 and p.embedding is not null
                    and cardinality(p.embedding) = cardinality($1)
                order by p.video_id desc
                limit $4
            ) as c
        ) as compared
        where compared.likeness > 0.3
        order by compared.likeness desc
        limit 60
    $q$, likeness) using vector, space, known_at, newest,
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
end
$$
"""

# In the order in which they need each other; ``definer``: run as their owner, so that a user need not be able to write
# passages; who may call them.
FUNCTIONS: tuple[tuple[str, str, bool, str], ...] = (
    ("echo.search_config(text)", CONFIG_OF, False, "authenticated, service_role, echo_definer"),
    ("echo.search_words(text, text)", TSV_OF, False, "service_role, echo_definer"),
    (
        "echo.put_passage(uuid, uuid, text, integer, double precision, double precision, text[], double precision[], "
        "text)",
        PUT_PASSAGE,
        True,
        "",
    ),
    ("echo.index_video(echo.videos)", INDEX_VIDEO, True, ""),
    ("echo.index_track(echo.caption_tracks)", INDEX_TRACK, True, ""),
    ("echo.video_written()", VIDEO_WRITTEN, True, ""),
    ("echo.track_written()", TRACK_WRITTEN, True, ""),
    ("echo.search_query(text, text[], text[])", QUERY, False, "authenticated, echo_definer"),
    ("echo.any_of(tsquery)", ANY_OF, False, "authenticated"),
    ("echo.marked(text, text, tsquery)", MARKED, False, "authenticated"),
    ("echo.search_matches(text[], text[], text[], text[], integer)", MATCHES, True, "authenticated"),
    ("echo.search_near(real[], text, uuid)", NEAR, False, "authenticated"),
    (
        "echo.search(text, text[], text[], text[], text[], real[], text, uuid, double precision, uuid, integer, "
        "integer)",
        SEARCH,
        False,
        "echo_api",
    ),
)


def upgrade() -> None:
    op.create_table(
        "passages",
        sa.Column("video_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("end_s", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("word_starts_s", ARRAY(sa.Double()), nullable=False, server_default=NO_NUMBERS),
        # Text: a column of regconfig keeps pg_upgrade from its work.
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("tsv", TSVECTOR(), nullable=False),
        sa.Column("embedding", ARRAY(sa.REAL()), nullable=True),
        sa.Column("embedding_space", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("video_id", "track", "number", name="pk_passages"),
        sa.ForeignKeyConstraint(
            ["video_id", "owner_id"],
            ["echo.videos.id", "echo.videos.owner_id"],
            name="fk_passages_video_id_owner_id_videos",
            ondelete="CASCADE",
        ),
        schema="echo",
    )
    op.create_index("ix_passages_owner_id_video_id", "passages", ["owner_id", "video_id"], schema="echo")
    op.create_index("ix_passages_tsv", "passages", ["tsv"], schema="echo", postgresql_using="gin")
    _secure()
    op.execute(VECTOR)
    op.execute(FOLDED)
    op.execute("revoke all on function echo.folded(text) from public")
    op.execute("grant execute on function echo.folded(text) to authenticated, service_role, echo_definer")
    op.execute("grant create on schema echo to echo_definer")  # a function's owner must hold it when it gets it
    for signature, definition, definer, callers in FUNCTIONS:
        op.execute(definition)
        op.execute(f"revoke all on function {signature} from public")
        if callers:
            op.execute(f"grant execute on function {signature} to {callers}")
        if definer:
            if not callers:
                # Until the backfill below is done; triggers need no right to be called.
                op.execute(f"grant execute on function {signature} to current_user")
            op.execute(f"alter function {signature} owner to echo_definer")
    for trigger in TRIGGERS:
        op.execute(trigger)
    op.execute("revoke create on schema echo from echo_definer")
    _backfill()


def _secure() -> None:
    op.execute("alter table echo.passages enable row level security")
    op.execute("alter table echo.passages force row level security")
    op.execute("create policy passages_of_service on echo.passages to service_role using (true) with check (true)")
    op.execute("create policy passages_of_definer on echo.passages to echo_definer using (true) with check (true)")
    mine = "owner_id = (select auth.uid())"
    op.execute(f"create policy passages_of_owner on echo.passages to authenticated using ({mine}) with check ({mine})")
    op.execute("grant select on echo.passages to authenticated")
    op.execute("grant select, insert, update, delete on echo.passages to service_role, echo_definer")


def _backfill() -> None:
    # The owner of the tables is bound by their policies too (force), and has none that lets it see a row.
    for table, function in (("videos", "index_video"), ("caption_tracks", "index_track")):
        op.execute(f"alter table echo.{table} no force row level security")
        op.execute(f"select echo.{function}(t) from echo.{table} as t")
        op.execute(f"alter table echo.{table} force row level security")
