-- One row a finished job. The timeline grows with the video and is seldom asked for, so it lies apart.
CREATE TABLE results (
    token    TEXT NOT NULL PRIMARY KEY REFERENCES jobs (token) ON DELETE CASCADE,
    analysis TEXT NOT NULL,
    timeline TEXT NOT NULL
);
